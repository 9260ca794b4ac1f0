package transport

import (
	"net/netip"
	"testing"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// liveBench runs b.N messages between two machines on real sockets, 64 in
// flight; sid says which session the i-th is of.
func liveBench(b *testing.B, sid func(i int) wire.SID) {
	mri := wire.MRI{Flow: wire.Flow{
		Source: netip.MustParsePrefix("127.0.6.100/32"), Destination: netip.MustParsePrefix("127.0.6.101/32"),
	}}
	from, to := newLivePeers(b, func(c *gist.Config) { c.Limits.DModeRate, c.Limits.QueryRate = 10_000_000, 10_000_000 })
	const inFlight = 64
	arrived := make(chan int, 1024)
	to.do(func() { to.got = func(gist.RecvMessage) { to.count++ } })
	to.do(func() {
		to.after = func() {
			if to.count > 0 {
				arrived <- to.count
				to.count = 0
			}
		}
	})
	data := make([]byte, benchSize-80)
	send := func(first, n int) {
		from.calls <- func() {
			for i := first; i < first+n; i++ {
				from.handle(gist.SendMessage{NSLPData: data, NSLPID: 1, SID: sid(i), MRI: mri, Attr: gist.TransferAttributes{Reliable: true}})
			}
		}
	}
	send(0, 1)
	<-arrived
	b.ReportAllocs()
	b.ResetTimer()
	sent, done := 0, 0
	for done < b.N {
		if n := min(inFlight-(sent-done), b.N-sent); n > 0 {
			send(1+sent, n)
			sent += n
		}
		done += <-arrived
	}
}

// A full handshake (Query, Response, Confirm) of a new session over an
// association that stands, and the Data that asked for it.
func BenchmarkLiveHandshake(b *testing.B) { liveBench(b, liveSID) }

// Data of sessions that stand.
func BenchmarkLiveData(b *testing.B) { liveBench(b, func(int) wire.SID { return liveSID(0) }) }
