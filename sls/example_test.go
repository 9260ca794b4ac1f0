package sls_test

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/interqos/interqos/sls"
)

// A provider sells 100 Mbit/s of EF to a customer; a first flow gets its part,
// a second one asks for more than is left.
func Example() {
	agreements, err := sls.Parse("gold.yaml", []byte(`
id: as65001-as65002-gold
customer: 65001
provider: 65002
scope: {destinations: [10.3.0.0/16]}
classes:
  - {class: EF, cir: 100M, pir: 120M, largest_flow: 90M, delay: 20ms}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2027, 1, 4, 9, 0, 0, 0, time.UTC)
	ledger := sls.New(sls.Config{})
	if _, err := ledger.Put(now, agreements[0], "operator"); err != nil {
		fmt.Println(err)
		return
	}

	request := sls.Request{
		ID: sls.ID{1}, Leg: sls.Inbound, Version: 1, Customer: 65001, Provider: 65002,
		Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.10/32"),
		Class: sls.EF, Rate: sls.OctetsUp(20_000_000),
	}
	grant, err := ledger.Hold(now, request)
	fmt.Println(grant.SLS, grant.Rate, err)
	bookings, err := ledger.Commit(now, request.ID, request.Version, grant.Rate)
	fmt.Println(bookings[0].Leg, bookings[0].Rate, err)

	request.ID, request.Rate = sls.ID{2}, sls.OctetsUp(85_000_000)
	_, err = ledger.Hold(now, request)
	if refusal := (*sls.Refusal)(nil); errors.As(err, &refusal) {
		fmt.Println(uint8(refusal.Code), refusal.Largest, refusal)
	}
	// Output:
	// as65001-as65002-gold 2500000 <nil>
	// inbound 2500000 <nil>
	// 65 10000000 the SLS has not enough at that time: as65001-as65002-gold: of 12500000 octets/s of EF, 10000000 can still be had at that time
}
