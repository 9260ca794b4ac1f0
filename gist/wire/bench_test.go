package wire

import "testing"

func BenchmarkDecodeQuery(b *testing.B) {
	s := sample(Query, true)
	octets := s.AppendDatagram(nil)
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if err := m.DecodeDatagram(octets); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeData(b *testing.B) {
	s := sample(Data, false)
	s.MRI = testMRI
	s.NSLPData = make([]byte, 240)
	octets := s.Append(nil)
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Decode(octets); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendQuery(b *testing.B) {
	s := sample(Query, true)
	out := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		out = s.AppendDatagram(out[:0])
	}
}

func BenchmarkAppendData(b *testing.B) {
	s := sample(Data, false)
	s.MRI = testMRI
	s.NSLPData = make([]byte, 240)
	out := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		out = s.Append(out[:0])
	}
}
