package capture_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/interqos/interqos/internal/capture"
	"github.com/interqos/interqos/internal/dissect"
)

// story is what a capture of streams gives: for each message its session, with
// "!" where it is malformed; for each remark "?".
func story(t *testing.T, list []frame, o capture.Options) (string, []dissect.Message, []capture.Event) {
	t.Helper()
	r, err := capture.NewReader(bytes.NewReader(pcap(101, list)), o)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	var messages []dissect.Message
	var remarks []capture.Event
	for {
		e, err := r.Next()
		if err != nil {
			return strings.Join(words, " "), messages, remarks
		}
		if e.Remark != "" {
			words = append(words, "?")
			remarks = append(remarks, e)
			continue
		}
		m := dissect.GIST(e)
		messages = append(messages, m)
		word := fmt.Sprint(m.SID[15])
		if !m.HasSID {
			word = ""
		}
		if m.Malformed() {
			word += "!"
		}
		words = append(words, word)
	}
}

// Streams as captures have them: RFC 5971 §5.1, §5.4 cut them by the length in the
// common header.
func TestStreams(t *testing.T) {
	b, ends := stream(4)
	n := ends[0] // all are of this length
	rest := func(s *side, more ...[]byte) []frame {
		list := [][]byte{s.syn()}
		return frames(append(list, more...)...)
	}
	for _, c := range []struct {
		name string
		make func(s *side) []frame
		want string
	}{
		{"one segment", func(s *side) []frame { return rest(s, s.send(b)) }, "0 1 2 3"},
		{"octet by octet", func(s *side) []frame {
			list := rest(s)
			for i := range b {
				list = append(list, frames(s.send(b[i:i+1]))...)
			}
			return list
		}, "0 1 2 3"},
		{"out of order", func(s *side) []frame {
			first := s.syn()
			x, y, z := s.send(b[:100]), s.send(b[100:n+7]), s.send(b[n+7:])
			return frames(first, z, y, x)
		}, "0 1 2 3"},
		{"sent again, in other segments", func(s *side) []frame {
			first := s.syn()
			x, y := s.raw(0, ack, b[:n+50]), s.raw(20, ack, b[20:2*n])
			z := s.raw(2*n-9, ack, b[2*n-9:])
			return frames(first, x, x, y, x, z, y, z)
		}, "0 1 2 3"},
		{"out of order, overlapping", func(s *side) []frame {
			first := s.syn()
			return frames(first, s.raw(200, ack, b[200:]), s.raw(150, ack, b[150:300]), s.raw(150, ack, b[150:200]), s.raw(0, ack, b[:170]))
		}, "0 1 2 3"},
		{"keepalives", func(s *side) []frame {
			first := s.syn()
			return frames(first, s.raw(0, ack, b[:n]), s.raw(n-1, ack, b[n-1:n]), s.raw(n-1, ack, []byte{0}), s.raw(n, ack, b[n:]))
		}, "0 1 2 3"},
		{"no beginning, at a message", func(s *side) []frame { return frames(s.send(b[:n]), s.send(b[n:])) }, "0 1 2 3"},
		{"no beginning, within a message", func(s *side) []frame { return frames(s.send(b[99:n]), s.send(b[n:])) }, "? 1 2 3"},
		{"no beginning, one segment", func(s *side) []frame { return frames(s.send(b[99:])) }, "? 1 2 3"},
		{"a segment that is not there", func(s *side) []frame {
			list := rest(s, s.send(b[:n+20]))
			s.send(b[n+20 : n+120])
			return append(list, frames(s.send(b[n+120:]))...)
		}, "0 ! 2 3"},
		{"a message that is not there", func(s *side) []frame {
			list := rest(s, s.send(b[:n]))
			s.send(b[n : 2*n])
			return append(list, frames(s.send(b[2*n:]))...)
		}, "0 ? 2 3"},
		{"segments that are not there, more than a message", func(s *side) []frame {
			list := rest(s, s.send(b[:n+20]))
			s.send(b[n+20 : 2*n+30])
			return append(list, frames(s.send(b[2*n+30:]))...)
		}, "0 ! ? 3"},
		{"cut by the capture", func(s *side) []frame {
			list := rest(s, s.send(b[:n]))
			whole := s.send(b[n : 2*n])
			list = append(list, frame{data: whole[:len(whole)-60], whole: len(whole)})
			return append(list, frames(s.send(b[2*n:]))...)
		}, "0 1! 2 3"},
		{"only headers captured", func(s *side) []frame {
			list := rest(s, s.send(b[:n]))
			whole := s.send(b[n : n+300])
			list = append(list, frame{data: whole[:40], whole: len(whole)})
			return append(list, frames(s.send(b[n+300:]))...)
		}, "0 ? ? 2 3"},
		{"another version", func(s *side) []frame {
			bad := slices.Clone(b)
			bad[n] = 2
			return rest(s, s.send(bad))
		}, "0 ! ? 2 3"},
		{"octets between", func(s *side) []frame {
			return rest(s, s.send(concat(b[:n], []byte("\x01\x01 some rubbish"), b[n:])))
		}, "0 ! 1 2 3"},
		{"rubbish, then messages", func(s *side) []frame { return rest(s, s.send([]byte("rubbish")), s.send(b)) }, "! ? 0 1 2 3"},
		{"a malformed message", func(s *side) []frame {
			bad := slices.Clone(b)
			bad[n+8], bad[n+9] = 0, 77 // an object's type
			return rest(s, s.send(bad))
		}, "0 1! 2 3"},
		{"ends within a message", func(s *side) []frame { return rest(s, s.send(b[:n+30]), s.fin()) }, "0 !"},
		{"ports used again", func(s *side) []frame {
			list := rest(s, s.send(b[:n+30]))
			s.open(s.seq + 1<<20)
			return append(list, rest(s, s.send(b[:n]))...)
		}, "0 ! 0"},
		{"reset", func(s *side) []frame { return rest(s, s.send(b[:n]), s.raw(0, rst, nil), s.send(b[n:])) }, "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, _ := newSides(t, 270)
			got, messages, remarks := story(t, c.make(client), capture.Options{})
			if got != c.want {
				for _, e := range remarks {
					t.Logf("frame %d: %s", e.Frame, e.Remark)
				}
				t.Errorf("%q, want %q", got, c.want)
			}
			for i := range messages {
				if m := &messages[i]; m.Malformed() && !strings.Contains(m.Text(), "MALFORMED: ") {
					t.Errorf("%s", m.Text())
				}
			}
		})
	}
}

// Messages have the frame that completed them, and where they begin in what
// their sender sent.
func TestStreamPlaces(t *testing.T) {
	b, ends := stream(3)
	client, server := newSides(t, 270)
	first := []([]byte){client.syn(), server.syn()}
	x, y, z := client.send(b[:10]), client.send(b[10:ends[0]+10]), client.send(b[ends[0]+10:])
	_, messages, _ := story(t, frames(append(first, x, z, y, server.send(b))...), capture.Options{})
	want := []struct {
		frame  int
		offset int64
		from   string
	}{{5, 0, "10.1.0.1:40000"}, {5, int64(ends[0]), "10.1.0.1:40000"}, {5, int64(ends[1]), "10.1.0.1:40000"},
		{6, 0, "10.2.0.1:270"}, {6, int64(ends[0]), "10.2.0.1:270"}, {6, int64(ends[1]), "10.2.0.1:270"}}
	if len(messages) != len(want) {
		t.Fatalf("%d messages, want %d", len(messages), len(want))
	}
	for i, w := range want {
		if e := messages[i].Event; e.Frame != w.frame || e.Offset != w.offset || e.From.String() != w.from || e.Transport != capture.TCP {
			t.Errorf("message %d: frame %d, offset %d, from %v; want %+v", i, e.Frame, e.Offset, e.From, w)
		}
	}
}

// On other ports than GIST's a stream is taken if it begins with a message, or a
// Response offered it (RFC 5971 §5.7.2).
func TestStreamsOnOtherPorts(t *testing.T) {
	b, ends := stream(2)
	n := ends[0]
	_, response, _ := association()
	offer := ipPacket(t, "10.2.0.1", "10.1.0.1", -1, 17, udp(270, 270, response.AppendDatagram(nil)))
	for _, c := range []struct {
		name    string
		port    uint16
		first   [][]byte
		payload []byte
		ports   []uint16
		want    string
	}{
		{"begins with a message", 7777, nil, b, nil, "0 1"},
		{"does not", 7777, nil, concat([]byte("hello\r\n"), b), nil, ""},
		{"does not, and is asked for", 7777, nil, concat([]byte("hello\r\n"), b), []uint16{7777}, "! ? 0 1"},
		{"is offered", 30001, [][]byte{offer}, concat([]byte("hello\r\n"), b), nil, "1 ! ? 0 1"},
		{"begins like a message", 7777, nil, concat(b[:15], []byte("no more, this is something else")), nil, ""},
		{"ends within its first message", 7777, nil, b[:n-4], nil, "0!"},
		{"TLS without anything", 443, nil, concat([]byte{22, 3, 1, 0, 4}, []byte("what"), []byte{23, 3, 3, 0, 4}, []byte("what")), nil, "?"},
	} {
		client, _ := newSides(t, c.port)
		list := append(slices.Clone(c.first), client.syn(), client.send(c.payload), client.fin())
		if got, _, remarks := story(t, frames(list...), capture.Options{Ports: c.ports}); got != c.want {
			t.Errorf("%s: %q, want %q: %v", c.name, got, c.want, remarks)
		}
	}
}
