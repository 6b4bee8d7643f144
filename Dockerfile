# Static binaries in images without a shell, run by a user without rights. Two targets:
# extauthz, and upstream, which echoes what it was sent, for the examples.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w" -o /out/ ./cmd/extauthz ./examples/upstream

FROM gcr.io/distroless/static:nonroot AS upstream
COPY --from=build /out/upstream /upstream
USER nonroot:nonroot
ENTRYPOINT ["/upstream"]

# The last target is the one that is built where none is named. There is no HEALTHCHECK: the
# image has nothing to run it with. Envoy asks by gRPC health checks, Kubernetes at /readyz.
FROM gcr.io/distroless/static:nonroot AS extauthz
COPY --from=build /out/extauthz /extauthz
USER nonroot:nonroot
ENTRYPOINT ["/extauthz"]
CMD ["serve", "--config", "/etc/extauthz/extauthz.yaml"]
