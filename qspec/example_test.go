package qspec_test

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/interqos/interqos/qspec"
)

// A request as a person writes it, through a node that has less, to the answer.
func Example() {
	// Bandwidth may shrink to 10 Mbit/s, EF is a must, and 40 ms a bound.
	q, err := qspec.ParseText("initiator proc=0/2 desired{tmod=20M/64k class=EF!M} " +
		"available{tmod=20M/64k latency=0} minimum{tmod=10M/64k latency<=40ms}")
	if err != nil {
		fmt.Println(err)
		return
	}
	wire := q.Append(nil)

	// A node on the path: read, and bring in what it has.
	q, err = qspec.Parse(wire)
	if err != nil {
		fmt.Println(err)
		return
	}
	share, err := qspec.ParseParams("tmod=15M/64k latency=25ms class=EF")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := q.Admit(qspec.InReserve, qspec.AllParams, &share); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(q)

	// The last node answers.
	fmt.Println(q.Response())

	// Another node like it is too much: 50 ms.
	err = q.Admit(qspec.InReserve, qspec.AllParams, &share)
	fmt.Println(err)
	var e *qspec.Error
	if errors.As(err, &e) {
		fmt.Printf("INFO-SPEC %d/0x%02x\n", e.Class, e.Code)
	}
	fmt.Println(q.Refusal())
	// Output:
	// initiator type=0 proc=0/2 desired{tmod=20M/64k class=EF!M} available{tmod=15M/64k latency=25ms} minimum{tmod=10M/64k latency<=40ms}
	// initiator type=0 proc=0/2 available{tmod=15M/64k latency=25ms} reserved{tmod=15M/64k class=EF!M}
	// reservation failure: QoS Available: Path Latency: cannot be met: Path Latency
	// INFO-SPEC 4/0x07
	// initiator type=0 proc=0/2 available!E{tmod=15M/64k latency=50ms!E}
}

// JSON says the same, and is read back.
func ExampleQSPEC_MarshalJSON() {
	q, err := qspec.ParseText("tmod=20M/64k class=EF")
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := json.Marshal(q)
	fmt.Println(string(b), err)
	var back qspec.QSPEC
	fmt.Println(json.Unmarshal(b, &back), back.String() == q.String())
	// Output:
	// {"version":0,"type":0,"local":false,"sequence":0,"combination":0,"desired":{"tmod":{"value":{"rate":2500000,"bucket":64000,"peak":null,"unit":64,"mps":1500},"must":true},"class":{"value":"EF"}}} <nil>
	// <nil> true
}

// An error says where, and what was probably meant.
func ExampleParseText_error() {
	_, err := qspec.ParseText("tmod=20M/64k latnecy<=40ms")
	var e *qspec.TextError
	if errors.As(err, &e) {
		fmt.Println(e.Pos, e.Suggestion)
	}
	// Output: 13 latency
}

// A domain carries the Initiator QSPEC inside a Local one, and updates it at its end.
func ExampleQSPEC_Unwrap() {
	i, err := qspec.ParseText("initiator proc=0/1 desired{tmod=8M/3k} available{tmod=8M/3k latency=10ms}")
	if err != nil {
		fmt.Println(err)
		return
	}
	local, err := qspec.Encapsulate(&i, qspec.InReserve)
	if err != nil {
		fmt.Println(err)
		return
	}
	share, err := qspec.ParseParams("tmod=4M/3k latency=5ms")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := local.Admit(qspec.InReserve, qspec.AllParams, &share); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(local.Unwrap(qspec.InReserve))
	// Output: initiator type=0 proc=0/1 desired{tmod=8M/3k} available{tmod=4M/3k latency=15ms} <nil>
}

// What Y.1541 class a path with 150 ms is of (RFC 5976 §4.4).
func ExampleY1541Of() {
	fmt.Println(qspec.Y1541Of(qspec.Objectives{Latency: 150_000, Jitter: 20_000, PLR: 1e-4, PER: 1e-5}))
	// Output: 1
}
