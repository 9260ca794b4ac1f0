package qspec

// RFC 5975 §5.2.13, DSTE Class Type.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           13          |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|DSTE Cls. Type |                (Reserved)                     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// maxDSTEClass is the highest class type allowed.
const maxDSTEClass = 7

func parseDSTEClass(v []byte) uint8 { return v[0] }

func appendDSTEClass(b []byte, c uint8) []byte { return append(b, c, 0, 0, 0) }
