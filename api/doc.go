// Package api is the admin API of qned (package interqos.v1): the messages and
// the gRPC services, generated from interqos.proto, which documents them.
package api

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative interqos.proto
