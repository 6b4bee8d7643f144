{{- define "extauthz.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "extauthz.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "extauthz.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "extauthz.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What pods are selected by: (list . "server"), where "server" is the component. */}}
{{- define "extauthz.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "extauthz.name" $ }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "extauthz.labels" -}}
{{- $ := index . 0 -}}
{{ include "extauthz.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "extauthz.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "extauthz.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "extauthz.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* The Pod Security Standard "restricted", for the pod and for its containers. */}}
{{- define "extauthz.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- with .Values.podSecurity.runAsUser }}
  runAsUser: {{ . | int64 }}
  {{- end }}
  {{- with .Values.podSecurity.runAsGroup }}
  runAsGroup: {{ . | int64 }}
  {{- end }}
  {{- with .Values.podSecurity.fsGroup }}
  fsGroup: {{ . | int64 }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "extauthz.containerSecurity" -}}
image: {{ include "extauthz.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  runAsNonRoot: true
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where pods may run. */}}
{{- define "extauthz.scheduling" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The store of the configuration. Databases are named by the environment alone. */}}
{{- define "extauthz.store" -}}
{{- if eq .Values.store.type "postgres" -}}
postgres:
  dsn: "${EXTAUTHZ_POSTGRES_DSN}"
  {{- if .Values.store.postgres.listenKey }}
  listen: "${EXTAUTHZ_POSTGRES_LISTEN}"
  {{- end }}
{{- else if eq .Values.store.type "redis" -}}
redis:
  url: "${EXTAUTHZ_REDIS_URL}"
  prefix: {{ .Values.store.redis.prefix | quote }}
{{- else -}}
yaml: {path: /etc/extauthz-keys}
{{- end -}}
{{- end -}}

{{/* The environment: (list . SECRET), where SECRET holds what the store's configuration needs. */}}
{{- define "extauthz.env" -}}
{{- $ := index . 0 -}}
{{- $secret := index . 1 -}}
{{- $store := $.Values.store -}}
{{- if eq $store.type "postgres" }}
- name: EXTAUTHZ_POSTGRES_DSN
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ $store.postgres.dsnKey | quote }}}}
{{- if $store.postgres.listenKey }}
- name: EXTAUTHZ_POSTGRES_LISTEN
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ $store.postgres.listenKey | quote }}}}
{{- end }}
{{- else if eq $store.type "redis" }}
- name: EXTAUTHZ_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ $store.redis.urlKey | quote }}}}
{{- end }}
{{- with $.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The Secret of the database. */}}
{{- define "extauthz.storeSecret" -}}
{{- if eq .Values.store.type "postgres" -}}
{{- required "store.postgres.existingSecret is required with store.type: postgres" .Values.store.postgres.existingSecret -}}
{{- else if eq .Values.store.type "redis" -}}
{{- required "store.redis.existingSecret is required with store.type: redis" .Values.store.redis.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* The server's configuration file. */}}
{{- define "extauthz.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "listen" ":9191" -}}
{{- $_ := set $config "admin" (dict "listen" ":9192") -}}
{{- $_ := set $config "store" (include "extauthz.store" . | fromYaml) -}}
{{- if .Values.tls.enabled -}}
{{- $tls := dict "cert_file" "/etc/extauthz-tls/tls.crt" "key_file" "/etc/extauthz-tls/tls.key" -}}
{{- if .Values.tls.requireClientCertificate -}}
{{- $_ := set $tls "client_ca_file" "/etc/extauthz-tls/ca.crt" -}}
{{- with .Values.tls.clientNames }}{{ $_ := set $tls "client_names" . }}{{ end -}}
{{- end -}}
{{- $_ := set $config "tls" $tls -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The dashboard's: the same, without a gRPC server to protect. */}}
{{- define "extauthz.dashboardConfig" -}}
{{- $config := omit (include "extauthz.config" . | fromYaml) "listen" "admin" "tls" -}}
{{- $d := .Values.dashboard -}}
{{- $oidc := dict "issuer" $d.oidc.issuer "client_id" $d.oidc.clientID "scopes" $d.oidc.scopes -}}
{{- if $d.oidc.existingSecret }}{{ $_ := set $oidc "client_secret" "${EXTAUTHZ_OIDC_CLIENT_SECRET}" }}{{ end -}}
{{- with $d.oidc.viewers }}{{ $_ := set $oidc "viewers" . }}{{ end -}}
{{- with $d.oidc.editors }}{{ $_ := set $oidc "editors" . }}{{ end -}}
{{- $_ := set $config "dashboard" (dict "listen" ":9194" "url" $d.url "login" "oidc" "oidc" $oidc) -}}
{{- toYaml $config -}}
{{- end -}}
