# Static binaries in images without a shell, run by an unprivileged user. Two targets: extauthz, and
# upstream, which echoes what it was sent, for the examples.
#
#   docker build --build-arg VERSION=v1.2.3 --build-arg COMMIT=$(git rev-parse HEAD) .
#
# The bases are named by tag: their digests were not known where this file was written. To build from
# what you have checked, pass the arguments below with a digest, such as golang:1.26@sha256:…
ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=gcr.io/distroless/static:nonroot

FROM --platform=$BUILDPLATFORM $GO_IMAGE AS build
ARG TARGETOS TARGETARCH VERSION COMMIT
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /out/ ./cmd/extauthz ./examples/upstream

FROM $BASE_IMAGE AS upstream
COPY --from=build /out/upstream /upstream
USER nonroot:nonroot
ENTRYPOINT ["/upstream"]

# The last target is the one that is built where none is named. There is no HEALTHCHECK: the
# image has nothing to run it with. Envoy asks by gRPC health checks, Kubernetes at /readyz.
FROM $BASE_IMAGE AS extauthz
COPY --from=build /out/extauthz /extauthz
USER nonroot:nonroot
ENTRYPOINT ["/extauthz"]
CMD ["serve", "--config", "/etc/extauthz/extauthz.yaml"]
