package capture_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/interqos/interqos/internal/capture"
	"github.com/interqos/interqos/internal/dissect"
)

// readAll reads a capture to its end.
func readAll(t testing.TB, r io.Reader, o capture.Options) (messages []dissect.Message, remarks []capture.Event, err error) {
	t.Helper()
	c, err := capture.NewReader(r, o)
	if err != nil {
		return nil, nil, err
	}
	for {
		e, err := c.Next()
		if errors.Is(err, io.EOF) {
			return messages, remarks, nil
		}
		if err != nil {
			return messages, remarks, err
		}
		if e.Remark != "" {
			remarks = append(remarks, e)
		} else {
			messages = append(messages, dissect.GIST(e))
		}
	}
}

func readFile(t testing.TB, file string) ([]dissect.Message, []capture.Event) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := capture.Options{KeyLog: keysOf(t, strings.TrimSuffix(file, ".pcap")+".keys")}
	messages, remarks, err := readAll(t, f, o)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return messages, remarks
}

// keysOf reads a key log, if it is there.
func keysOf(t testing.TB, file string) *capture.KeyLog {
	t.Helper()
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	k, err := capture.ReadKeyLog(f)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// kinds are the types of messages, "transport type nslp-type", without
// repetitions.
func kinds(messages []dissect.Message) map[string]int {
	count := map[string]int{}
	for i := range messages {
		m := &messages[i]
		k := string(m.Event.Transport)
		if m.HasHeader {
			k += " " + m.Header.Type.String()
		}
		if m.HasNSLP {
			k += " " + m.NSLP.Type.String()
		}
		if m.Malformed() {
			k += " malformed"
		}
		count[k]++
	}
	return count
}

// contents is what a capture has at least, or exactly.
type contents struct {
	exact bool
	kinds map[string]int
}

// recorded are the captures of testdata.
var recorded = map[string]contents{
	"dmode-ipv4": {true, map[string]int{"udp-qmode Query": 1, "udp Response": 1, "udp Confirm": 1, "udp Data RESERVE": 1, "udp Data RESPONSE": 1}},
	"dmode-ipv6": {true, map[string]int{"udp-qmode Query": 1, "udp Response": 1, "udp Confirm": 1, "udp Data RESERVE": 1, "udp Data RESPONSE": 1}},
	"cmode-tcp": {false, map[string]int{"udp-qmode Query": 2, "udp Response": 1, "tcp Confirm": 2, "tcp Response": 1, "tcp Data RESERVE": 4,
		"tcp Data RESPONSE": 3, "tcp MA-Hello": 2}},
	"errors":  {true, map[string]int{"udp-qmode Query malformed": 4, "udp-qmode message type 77 malformed": 1, "udp malformed": 1, "udp Error": 7, "udp-qmode Query": 2}},
	"tls13":   {true, map[string]int{"udp-qmode Query": 1, "udp Response": 1, "tls Confirm": 1, "tls Data RESERVE": 2, "tls Data RESPONSE": 2}},
	"tls12":   {true, map[string]int{"udp-qmode Query": 1, "udp Response": 1, "tls Confirm": 1, "tls Data RESERVE": 2, "tls Data RESPONSE": 2, "tls MA-Hello": 2}},
	"reserve": {true, map[string]int{"udp-qmode Query": 9, "udp Response": 2, "tcp Response": 1, "tcp Confirm": 3, "tcp Data RESERVE": 5, "tcp Data RESPONSE": 5}},
}

var recordedLive = contents{false, map[string]int{"udp-qmode Query": 1, "udp Response": 1, "tcp Confirm": 1, "tcp Data RESERVE": 2, "tcp Data RESPONSE": 1}}
