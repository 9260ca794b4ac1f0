package qspec

// RFC 5975 §5.2.6, Path PER.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           6           |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|             Path Packet Error Ratio (32-bit floating point)   |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

func parsePathPER(to *float32, v []byte) error { return parseRatio(to, v) }

func appendPathPER(b []byte, v float32) []byte { return appendRatio(b, v) }
