package wire

import "fmt"

// ParseError says what is wrong with a message, and carries what the INFO-SPEC
// of an error RESPONSE tells the sender about it (RFC 5974 §5.1.3.6). Its class
// is always Protocol Error.
type ParseError struct {
	Code   uint8      // of class ClassProtocolError
	Type   ObjectType // the object that it is about; 0: the message
	Offset int        // of the object's header in the message
	Object []byte     // the offending object with its header, as received; nil: none
	Want   string     // what was expected
	Err    error      // cause, or nil
}

func (e *ParseError) Error() string {
	s := "QoS-NSLP message: " + CodeText(ClassProtocolError, e.Code)
	if e.Type != 0 || e.Object != nil {
		s += fmt.Sprintf(": %v at offset %d", e.Type, e.Offset)
	}
	if e.Want != "" {
		s += ": want " + e.Want
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *ParseError) Unwrap() error { return e.Err }

// maxInfoObject bounds how much of an offending object goes back to its sender.
const maxInfoObject = 256

// InfoSpec is what an error RESPONSE says of the error: with Object Type Info or
// Object Value Info where there is one for it (RFC 5974 §5.1.3.6).
func (e *ParseError) InfoSpec(src ErrorSource) InfoSpec {
	i := InfoSpec{Class: ClassProtocolError, Code: e.Code, Source: src}
	switch InfoKindOf(i.Class, e.Code) {
	case ObjectTypeInfo:
		if e.Type != 0 || e.Object != nil {
			i.Info = e.Type.AppendInfo(nil)
		}
	case ObjectValueInfo:
		// The whole object or nothing: Offset leaves out an object's front,
		// and what is of interest is there.
		if n := len(e.Object); n > 0 && n <= maxInfoObject && n%4 == 0 {
			i.Info = (&ObjectValue{Object: e.Object}).Append(make([]byte, 0, 4+n))
		}
	}
	return i
}

func wrongLength(t ObjectType, want string) *ParseError {
	return &ParseError{Code: WrongObjectLength, Type: t, Want: want}
}

// framingError is about an object that does not fit into the rest of the
// message; what is there of it is the offending object.
func framingError(b []byte, at int, t ObjectType, err error) *ParseError {
	e := &ParseError{Code: WrongObjectLength, Type: t, Offset: at, Object: b[at:], Err: err}
	if len(b)-at < ObjectHeaderLen {
		e.Code, e.Type = WrongMessageLength, 0
	}
	return e
}
