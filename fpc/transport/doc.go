// Package transport carries FPC commands between a client and the agent of a
// data-plane node. For now that is gRPC, over a Unix socket or, where the
// configuration says insecure, plain TCP on loopback; ForCES is to replace what
// is on the wire and not what this package offers.
package transport

//go:generate protoc --go_out=. --go_opt=module=github.com/interqos/interqos/fpc/transport --go-grpc_out=. --go-grpc_opt=module=github.com/interqos/interqos/fpc/transport fpc.proto
