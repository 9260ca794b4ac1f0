package main

import (
	"encoding/json"
	"time"
)

// Facts is the whole story for a script. Rates are bit/s, times what their names
// say.
type Facts struct {
	OK      bool    `json:"ok"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`

	Networks []Network `json:"networks"`
	Gateway  *Gateway  `json:"gateway"`
	SLSs     []Loaded  `json:"slss"`

	TrafficBefore *Traffic `json:"traffic_before"`
	TrafficAfter  *Traffic `json:"traffic_after"`

	Reservation *Reservation `json:"reservation"`
	Refusal     *Refusal     `json:"refusal"`
	Release     *Release     `json:"release"`

	Processes []Ended  `json:"processes"` // null with -keep
	Stores    []Stored `json:"stores"`    // null with -keep
	Folder    string   `json:"folder,omitempty"`
}

// Network is one AS.
type Network struct {
	AS     uint32  `json:"as"`
	Role   string  `json:"role"`
	PID    int     `json:"pid"`
	QNE    string  `json:"qne"`
	Socket string  `json:"socket"`
	Edges  []Edge  `json:"edges"`
	BGP    []Peer  `json:"bgp_sessions"`
	Routes []Route `json:"routes"`
}

// Edge is a border edge.
type Edge struct {
	Name       string `json:"name"`
	External   string `json:"external"`
	NeighborAS uint32 `json:"neighbor_as"`
	Neighbor   string `json:"neighbor"`
}

// Peer is a BGP session.
type Peer struct {
	AS      uint32 `json:"as"`
	Address string `json:"address"`
	State   string `json:"state"`
}

// Route is one that BGP brought, or that the AS originates (no AS path).
type Route struct {
	Prefix  string   `json:"prefix"`
	ASPath  []uint32 `json:"as_path"`
	NextHop string   `json:"next_hop"`
}

// Gateway is bngfe.
type Gateway struct {
	PID         int          `json:"pid"`
	DPN         string       `json:"dpn"`
	Wire        string       `json:"wire"`
	Subscribers []Subscriber `json:"subscribers"`
}

// Subscriber is one of the gateway's.
type Subscriber struct {
	Name     string   `json:"name"`
	Prefixes []string `json:"prefixes"`
	Rate     uint64   `json:"rate"`
}

// Loaded is the SLSs of one AS, and how much of each is in use.
type Loaded struct {
	AS    uint32  `json:"as"`
	Usage []Usage `json:"usage"`
}

// Usage is one class of one SLS, as slsctl tells it.
type Usage struct {
	SLS          string `json:"sls_id"`
	Class        string `json:"class"`
	Capacity     uint64 `json:"capacity"`
	Committed    uint64 `json:"committed"`
	Held         uint64 `json:"held"`
	Reservations uint32 `json:"reservations"`
}

// Traffic is one measurement.
type Traffic struct {
	Window  time.Duration `json:"window_ns"`
	Flow    FlowRate      `json:"flow"`
	Greedy  FlowRate      `json:"greedy"`
	Attempt int           `json:"attempt"` // more than 1: the ones before did not count
}

// FlowRate is what was sent and what arrived of a flow.
type FlowRate struct {
	Flow     string  `json:"flow"`
	Offered  uint64  `json:"offered"`
	Received uint64  `json:"received"`
	Share    float64 `json:"share"`
	Lost     uint64  `json:"lost_packets"`
	DSCP     uint8   `json:"dscp"`
	DelayMax float64 `json:"delay_max_us"`
}

// Answer is what qnectl reserve says.
type Answer struct {
	Outcome  Outcome   `json:"outcome"`
	Path     []Hop     `json:"path"`
	Messages []Message `json:"messages"`
}

// Outcome is what became of a request.
type Outcome struct {
	Session string          `json:"session_id"`
	RSN     uint32          `json:"rsn"`
	OK      bool            `json:"accepted"`
	Granted uint64          `json:"granted_rate"`
	Info    Info            `json:"info"`
	Largest uint64          `json:"largest_rate"`
	Elapsed uint64          `json:"elapsed_us"`
	Domains json.RawMessage `json:"domains,omitempty"`
}

// Info is an INFO-SPEC.
type Info struct {
	Class  uint32 `json:"class"`
	Code   uint32 `json:"code"`
	Text   string `json:"text"`
	Source string `json:"source"`
}

// Hop is one AS of the path.
type Hop struct {
	AS      uint32 `json:"as"`
	Ingress string `json:"ingress"`
	Egress  string `json:"egress"`
	SLS     string `json:"sls"`
	Verdict string `json:"verdict"`
	Elapsed uint64 `json:"elapsed_us"`
	Largest uint64 `json:"largest_rate"`
}

// Message is one rung of the ladder.
type Message struct {
	Time      int64  `json:"time_ns"`
	AS        uint32 `json:"as"`
	Node      string `json:"node"`
	From      string `json:"from"`
	To        string `json:"to"`
	Transport string `json:"transport"`
	Layer     string `json:"layer"`
	Message   string `json:"message"`
	Note      string `json:"note"`
	Direction string `json:"direction"`
}

// Reservation is the one that is made.
type Reservation struct {
	Answer
	Held     []Held    `json:"held"`
	Policers []Policer `json:"policers"`
}

// Refusal is the request that asks for too much.
type Refusal struct {
	Answer
	RefusedBy uint32    `json:"refused_by"`
	Held      []Held    `json:"held"` // as before the request
	Policers  []Policer `json:"policers"`
}

// Release is what is left after the end of the first reservation.
type Release struct {
	Held     []Held    `json:"held"`
	Policers []Policer `json:"policers"`
}

// Held is what one AS has of reservations, part by part.
type Held struct {
	AS              uint32 `json:"as"`
	LedgerHeld      uint64 `json:"ledger_held"`
	LedgerCommitted uint64 `json:"ledger_committed"`
	LedgerRate      uint64 `json:"ledger_rate"` // held and committed, over all SLSs
	DriverHeld      uint64 `json:"driver_held"`
	DriverCommitted uint64 `json:"driver_committed"`
	StoreRecords    uint64 `json:"store_records"`
	RoutingStates   uint64 `json:"gist_routing_states"`
	Handshakes      uint64 `json:"gist_handshakes"`
	Associations    uint64 `json:"gist_associations"`
	Sessions        uint64 `json:"nslp_sessions"`
	Transactions    uint64 `json:"nslp_transactions"`
}

// Policer is one that the gateway's own table has for a flow.
type Policer struct {
	Session string `json:"session_id"`
	Match   string `json:"match"`
	Rate    uint64 `json:"rate"`
	DSCP    uint8  `json:"dscp"`
}

// Ended is how a process ended.
type Ended struct {
	Name   string `json:"name"`
	PID    int    `json:"pid"`
	Status string `json:"status"`
}

// Stored is what a store's file has after its process has ended.
type Stored struct {
	AS           uint32 `json:"as"`
	File         string `json:"file"`
	Reservations int    `json:"reservations"`
	SLSs         int    `json:"slss"`
}
