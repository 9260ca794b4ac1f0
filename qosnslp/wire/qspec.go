package wire

// QSPEC, RFC 5974 §5.1.3.11: what it contains is RFC 5975's business, here it
// is opaque and at least its own header long.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                         QSPEC Data                          //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// needValue refuses an object of variable length that has no content.
func needValue(o Object) *ParseError {
	if len(o.Value) == 0 {
		return wrongLength(o.Type, "at least 1 word")
	}
	return nil
}
