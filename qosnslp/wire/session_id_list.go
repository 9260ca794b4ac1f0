package wire

import gistwire "github.com/interqos/interqos/gist/wire"

// SESSION-ID-LIST, RFC 5974 §5.1.3.7: 128-bit SESSION-IDs one after the other.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                          Session ID 1                         |
//	:                                                               :
//	|                          Session ID n                         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// MaxSessionIDs is how many SESSION-IDs one SESSION-ID-LIST can carry.
const MaxSessionIDs = MaxValueLen / 16

func appendSessionIDList(b []byte, sids []gistwire.SID) []byte {
	b = appendHeader(b, Mandatory, TypeSessionIDList, 4*len(sids))
	for i := range sids {
		b = append(b, sids[i][:]...)
	}
	return b
}

func parseSessionIDList(v []byte) ([]gistwire.SID, *ParseError) {
	if len(v) == 0 || len(v)%16 != 0 {
		return nil, wrongLength(TypeSessionIDList, "one or more SESSION-IDs of 4 words")
	}
	sids := make([]gistwire.SID, len(v)/16)
	for i := range sids {
		copy(sids[i][:], v[16*i:])
	}
	return sids, nil
}
