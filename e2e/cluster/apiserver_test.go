package cluster_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"extauthz/e2e/harness"
	"extauthz/polltest"
	"extauthz/proctest"
)

// An apiServer is a Kubernetes API server over an etcd of its own, and a client with every permission.
// No controller runs: objects are stored, and nothing acts on them.
type apiServer struct {
	t         *testing.T
	discovery *discovery.DiscoveryClient
	dynamic   *dynamic.DynamicClient
	mapper    apimeta.RESTMapper
	warnings  *warnings
}

// warnings are those that the API server sent, as `kubectl` prints them.
type warnings struct {
	mu   sync.Mutex
	list []string
}

func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, text)
}

// take returns the warnings since the last call.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.list
	w.list = nil
	return list
}

func startAPIServer(t *testing.T) *apiServer {
	t.Helper()
	dir, addr := t.TempDir(), harness.FreeAddr(t)
	token, key := rand.Text(), filepath.Join(dir, "service-accounts.pem")
	writeFile(t, key, ecKey(t))
	writeFile(t, filepath.Join(dir, "tokens.csv"), token+",test,test,system:masters\n")
	_, port, _ := strings.Cut(addr, ":")
	command := exec.Command(tool(t, "kube-apiserver"),
		"--etcd-servers", startEtcd(t),
		"--bind-address=127.0.0.1", "--secure-port="+port, "--cert-dir="+dir,
		// For other programs of a cluster, which do not run here.
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
		"--token-auth-file="+filepath.Join(dir, "tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		// As in most clusters: what refuses privileged pods is Pod Security.
		"--allow-privileged")
	s := &apiServer{t: t, warnings: &warnings{}}
	proctest.Start(t, "kube-apiserver", command, func() error {
		config := &rest.Config{
			Host: "https://" + addr, BearerToken: token, WarningHandlerWithContext: s.warnings, QPS: -1,
			TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(dir, "apiserver.crt"), ServerName: "kubernetes"},
		}
		var err error
		if s.discovery, err = discovery.NewDiscoveryClientForConfig(config); err != nil {
			return err // it has not written its certificate yet
		}
		if s.dynamic, err = dynamic.NewForConfig(config); err != nil {
			return err
		}
		return s.discovery.RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error()
	})
	s.discover()
	return s
}

// in returns the same server, in a subtest.
func (s *apiServer) in(t *testing.T) *apiServer {
	in := *s
	in.t = t
	return &in
}

// startEtcd starts an etcd, and returns its URL.
func startEtcd(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatalf("no etcd: run `make test-cluster`, which installs it (%v)", err)
	}
	client, peer := "http://"+harness.FreeAddr(t), "http://"+harness.FreeAddr(t)
	command := exec.Command(path, "--data-dir", t.TempDir(),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	proctest.Start(t, "etcd", command, func() error {
		r, err := http.Get(client + "/health")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	})
	return client
}

// ecKey returns a new private key, which signs tokens of service accounts.
func ecKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// discover reads which kinds the API server has.
func (s *apiServer) discover() {
	s.t.Helper()
	groups, err := restmapper.GetAPIGroupResources(s.discovery)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mapper = restmapper.NewDiscoveryRESTMapper(groups)
}

// resource returns the client of an object's kind. An object without a namespace is in the given one.
func (s *apiServer) resource(o *unstructured.Unstructured, namespace string) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	mapping, err := s.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == apimeta.RESTScopeNameRoot {
		return s.dynamic.Resource(mapping.Resource), nil
	}
	if o.GetNamespace() != "" {
		namespace = o.GetNamespace()
	}
	return s.dynamic.Resource(mapping.Resource).Namespace(namespace), nil
}

// apply is `kubectl apply --server-side --validate=strict`, which Helm does too. A hook that Helm deletes before
// it creates it again is deleted.
func (s *apiServer) apply(doc []byte, namespace string) (*unstructured.Unstructured, error) {
	var o unstructured.Unstructured
	if err := yaml.Unmarshal(doc, &o.Object); err != nil {
		return nil, err
	}
	client, err := s.resource(&o, namespace)
	if err != nil {
		return nil, err
	}
	if strings.Contains(o.GetAnnotations()["helm.sh/hook-delete-policy"], "before-hook-creation") {
		if err := s.delete(client, o.GetName()); err != nil {
			return nil, err
		}
	}
	force := false
	return client.Patch(s.t.Context(), o.GetName(), types.ApplyPatchType, doc, metav1.PatchOptions{
		FieldManager: "test", FieldValidation: metav1.FieldValidationStrict, Force: &force,
	})
}

// mustApply applies a manifest that the test itself needs.
func (s *apiServer) mustApply(format string, args ...any) {
	s.t.Helper()
	if _, err := s.apply(fmt.Appendf(nil, format, args...), ""); err != nil {
		s.t.Fatal(err)
	}
}

// delete deletes an object and what belongs to it, if it is there, and waits until it is gone.
func (s *apiServer) delete(client dynamic.ResourceInterface, name string) error {
	now, background := int64(0), metav1.DeletePropagationBackground
	err := client.Delete(s.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now, PropagationPolicy: &background})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	polltest.Until(s.t, name+" is deleted", func() bool {
		_, err := client.Get(s.t.Context(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	return nil
}
