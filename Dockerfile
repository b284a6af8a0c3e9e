# syntax=docker/dockerfile:1

FROM golang:1.26.11 AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/postrider ./cmd/postrider
RUN mkdir -p /out/tmp && chmod 1777 /out/tmp

# Nothing but the binary, the certificates of the authorities it trusts, and a
# place for temporary files: no shell, no package manager, no user but a number.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tmp /tmp
COPY --from=build /out/postrider /postrider
USER 65532:65532
# 8080: the API. 8081: a worker's probes. 2525: mail taken in, where it is on.
EXPOSE 8080 8081 2525
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/postrider", "health"]
ENTRYPOINT ["/postrider"]
CMD ["serve"]
