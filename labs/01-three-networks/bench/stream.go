package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// Messages over one connection: GIST Data over one messaging association, beside
// a plain TCP echo of frames with a length, both with many in flight and what
// is ready written at once.

const (
	streamFlight = 64
	streamCount  = 300_000
	echoNSLP     = wire.NSLPID(2) // the responder sends these back
)

// frameServer echoes frames, each read by itself and copied into what is written
// at once: what a program that looks at its messages cannot do without.
func frameServer() error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	c, err := l.Accept()
	if err != nil {
		return err
	}
	in, have, out := make([]byte, 64<<10), 0, make([]byte, 0, 64<<10)
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return nil // the other end has what it wanted
		}
		have += n
		whole := 0
		for out = out[:0]; have-whole >= 4; {
			size := 4 + int(binary.BigEndian.Uint32(in[whole:]))
			if size > len(in) {
				return fmt.Errorf("a frame of %d octets", size)
			}
			if have-whole < size {
				break
			}
			out = append(out, in[whole:whole+size]...)
			whole += size
		}
		if _, err := c.Write(out); err != nil {
			return nil
		}
		have = copy(in, in[whole:have])
	}
}

// frames measures the plain echo.
func (b *bench) frames(ctx context.Context) (float64, error) {
	line, stop, err := startChild(ctx, "frame-echo")
	if err != nil {
		return 0, err
	}
	defer stop()
	c, err := net.Dial("tcp4", line)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }() // all that was written has come back
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	frame := binary.BigEndian.AppendUint32(nil, messageSize)
	frame = append(frame, make([]byte, messageSize)...)
	back := make(chan int, streamFlight)
	var reader sync.WaitGroup
	defer reader.Wait()
	var readErr error
	reader.Go(func() {
		defer close(back)
		r := bufio.NewReaderSize(c, 64<<10)
		for n, whole := 0, make([]byte, len(frame)); n < streamCount; {
			got := 0
			for got == 0 || r.Buffered() >= len(frame) {
				if _, readErr = io.ReadFull(r, whole); readErr != nil {
					return
				}
				got++
			}
			n += got
			back <- got
		}
	})
	start, sent, done := time.Now(), 0, 0
	var out []byte
	for done < streamCount {
		out = out[:0]
		for ; sent-done < streamFlight && sent < streamCount; sent++ {
			out = append(out, frame...)
		}
		if _, err := c.Write(out); err != nil {
			return 0, fmt.Errorf("TCP echo: %w", err)
		}
		got, ok := <-back
		for ok && len(back) > 0 {
			got += <-back
		}
		if done += got; !ok && done < streamCount {
			return 0, fmt.Errorf("TCP echo: %w", readErr)
		}
	}
	return streamCount / time.Since(start).Seconds(), nil
}

// stream measures both.
func (b *bench) stream(ctx context.Context) error {
	plain, err := b.frames(ctx)
	if err != nil {
		return err
	}
	b.add("tcp_frame_echo_per_s", plain, "1/s")
	for _, over := range []struct{ name, pki string }{{"gist_data_echo_per_s", ""}, {"gist_data_tls_echo_per_s", b.pkiDir()}} {
		rate, err := dataEcho(ctx, over.pki)
		if err != nil {
			return err
		}
		b.add(over.name, rate, "1/s")
		fmt.Printf("%-28s %12.4g %%      of the plain TCP echo of frames\n", "", 100*rate/plain)
	}
	return nil
}

// dataEcho measures Data there and back over one association, over TLS if there
// are certificates.
func dataEcho(ctx context.Context, pkiDir string) (rate float64, err error) {
	err = withPeer(ctx, pkiDir, func(ctx context.Context, p *gistPeer) error {
		if _, err := p.echoes(ctx, 1); err != nil { // the session
			return err
		}
		rate, err = p.echoes(ctx, streamCount)
		return err
	})
	return rate, err
}

// echoes sends count messages of one session, each but the first ones when
// another has come back, and waits for all.
func (p *gistPeer) echoes(ctx context.Context, count int) (float64, error) {
	m := sendData(0)
	m.NSLPID, m.NSLPData = echoNSLP, m.NSLPData[:(messageSize-80)&^3]
	sent, back, done := min(streamFlight, count), 0, make(chan struct{})
	p.mu.Lock()
	p.next = func(_ *gist.RecvMessage, _ *gist.SendMessage) *gist.SendMessage {
		if back++; back == count {
			close(done)
		}
		if sent == count {
			return nil
		}
		sent++
		return &m
	}
	p.mu.Unlock()
	first := make([]gist.Event, sent)
	for i := range first {
		first[i] = &m // the machine does not keep it
	}
	start := time.Now()
	p.handle(first)
	select {
	case <-done:
		return float64(count) / time.Since(start).Seconds(), nil
	case <-time.After(time.Minute):
		s := p.stats()
		return 0, fmt.Errorf("GIST: %d messages failed, %d of %d came back", s.MessagesFailed, s.MessagesIn, count)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// echo sends back what is to be.
func echo(r *gist.RecvMessage, back *gist.SendMessage) *gist.SendMessage {
	if r.NSLPID != echoNSLP {
		return nil
	}
	back.NSLPData, back.NSLPID, back.SID, back.MRI = r.Data, r.NSLPID, r.SID, r.MRI
	back.MRI.Upstream = !r.MRI.Upstream
	back.Attr.Reliable = true
	return back
}
