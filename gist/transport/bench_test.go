package transport

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/interqos/interqos/gist"
)

const benchSize = 300 // octets, about a small RESERVE

// BenchmarkUDPEcho is one datagram there and back, one in flight; Raw is the
// same with bare sockets.
func BenchmarkUDPEcho(b *testing.B) {
	b.Run("gist", func(b *testing.B) {
		var server *UDP
		server = listenUDP(b, UDPConfig{Addrs: []netip.AddrPort{loopback4}, Handler: func(events []gist.Event) {
			out := make([]Outgoing, 0, len(events))
			for _, ev := range events {
				d := ev.(gist.Datagram)
				out = append(out, Outgoing{SendDatagram: gist.SendDatagram{To: d.From, Payload: d.Payload, TTL: 255}})
			}
			if err := server.Send(out); err != nil {
				b.Error(err)
			}
		}})
		back := make(chan struct{}, 1)
		client := listenUDP(b, UDPConfig{Addrs: []netip.AddrPort{loopback4}, Handler: func([]gist.Event) { back <- struct{}{} }})
		batch := []Outgoing{outgoing(server.LocalAddrs()[0], string(make([]byte, benchSize)))}
		b.ReportAllocs()
		for b.Loop() {
			if err := client.Send(batch); err != nil {
				b.Fatal(err)
			}
			<-back
		}
	})
	b.Run("raw", func(b *testing.B) {
		server, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback4))
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			buf := make([]byte, 2000)
			for {
				n, from, err := server.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				_, _ = server.WriteToUDPAddrPort(buf[:n], from)
			}
		}()
		defer func() { _ = server.Close() }()
		client, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		out, in := make([]byte, benchSize), make([]byte, 2000)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := client.Write(out); err != nil {
				b.Fatal(err)
			}
			if _, err := client.Read(in); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTCPEcho is one message there and back, one in flight; raw is the
// same with bare sockets.
func BenchmarkTCPEcho(b *testing.B) {
	b.Run("gist", func(b *testing.B) {
		var server *TCP
		server = listenTCP(b, TCPConfig{Listen: []netip.AddrPort{loopback4}, Handler: func(events []gist.Event) {
			for _, ev := range events {
				if m, ok := ev.(*gist.ConnMessage); ok {
					if err := server.Send(gist.SendConn(*m)); err != nil {
						b.Error(err)
					}
				}
			}
		}})
		back := make(chan struct{}, 1)
		client := listenTCP(b, TCPConfig{Handler: func([]gist.Event) { back <- struct{}{} }})
		if err := client.Connect(gist.Connect{Conn: 1, To: server.LocalAddrs()[0]}); err != nil {
			b.Fatal(err)
		}
		<-back
		m := gist.SendConn{Conn: 1, Payload: message(benchSize - 60)}
		b.ReportAllocs()
		for b.Loop() {
			if err := client.Send(m); err != nil {
				b.Fatal(err)
			}
			<-back
		}
	})
	b.Run("raw", func(b *testing.B) {
		l, err := net.Listen("tcp", loopback4.String())
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		go func() {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.CopyBuffer(struct{ io.Writer }{nc}, struct{ io.Reader }{nc}, make([]byte, 4096))
			_ = nc.Close()
		}()
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		m := message(benchSize - 60)
		in := make([]byte, len(m))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := nc.Write(m); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(nc, in); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTCPStream sends messages one way, up to 1024 in flight.
func BenchmarkTCPStream(b *testing.B) {
	var received atomic.Int64
	progress := make(chan struct{}, 1)
	server := listenTCP(b, TCPConfig{Listen: []netip.AddrPort{loopback4}, Handler: func(events []gist.Event) {
		received.Add(int64(len(events)))
		select {
		case progress <- struct{}{}:
		default:
		}
	}})
	up := make(chan struct{}, 1)
	client := listenTCP(b, TCPConfig{Handler: func([]gist.Event) { up <- struct{}{} }})
	if err := client.Connect(gist.Connect{Conn: 1, To: server.LocalAddrs()[0]}); err != nil {
		b.Fatal(err)
	}
	<-up
	m := gist.SendConn{Conn: 1, Payload: message(benchSize - 60)}
	sent := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		for sent-received.Load() >= 1024 {
			<-progress
		}
		if err := client.Send(m); err != nil {
			b.Fatal(err)
		}
		sent++
	}
}
