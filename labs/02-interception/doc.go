// Package interception is lab 02: hosts A and B with routers between them, in
// network namespaces, and Queries that a router intercepts, forwards, or does
// not see. Its check are its tests; `make lab LAB=02-interception` runs them.
package interception
