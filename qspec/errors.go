package qspec

import (
	"errors"
	"fmt"
)

// INFO-SPEC classes and codes that a QSPEC can be answered with (RFC 5975
// §4.2.3; the catalogue is RFC 5974 §5.1.3.6).
const (
	ClassProtocolError    uint8 = 3
	ClassTransientFailure uint8 = 4
	ClassQoSModelError    uint8 = 6

	CodeMalformedQSPEC     uint8 = 0x0c // class 3
	CodeIncompatibleQSPEC  uint8 = 0x0f // class 3
	CodeReservationFailure uint8 = 0x07 // class 4
)

var (
	errEmpty     = errors.New("empty")
	errDuplicate = errors.New("present twice")
)

// Error says what is wrong with a QSPEC and what to answer: the INFO-SPEC
// class and code.
type Error struct {
	Class, Code uint8
	Object      ObjectType  // NoObject: the QSPEC as a whole
	Parameter   ParameterID // 0: the object as a whole
	Err         error
}

func (e *Error) Error() string {
	what := e.name()
	switch {
	case e.Parameter != 0:
		return fmt.Sprintf("%s: %v: %v: %v", what, e.Object, e.Parameter, e.Err)
	case e.Object != NoObject:
		return fmt.Sprintf("%s: %v: %v", what, e.Object, e.Err)
	}
	return fmt.Sprintf("%s: %v", what, e.Err)
}

func (e *Error) name() string {
	switch {
	case e.Class == ClassProtocolError && e.Code == CodeMalformedQSPEC:
		return "malformed QSPEC"
	case e.Class == ClassProtocolError && e.Code == CodeIncompatibleQSPEC:
		return "incompatible QSPEC"
	case e.Class == ClassTransientFailure && e.Code == CodeReservationFailure:
		return "reservation failure"
	}
	return fmt.Sprintf("QSPEC error %d/0x%02x", e.Class, e.Code)
}

func (e *Error) Unwrap() error { return e.Err }

// malformed is RFC 5975 §4.2.3, Malformed QSPEC.
func malformed(t ObjectType, id ParameterID, err error) *Error {
	return &Error{Class: ClassProtocolError, Code: CodeMalformedQSPEC, Object: t, Parameter: id, Err: err}
}

// failure is RFC 5975 §4.2.3, Reservation Failure.
func failure(t ObjectType, id ParameterID, err error) *Error {
	return &Error{Class: ClassTransientFailure, Code: CodeReservationFailure, Object: t, Parameter: id, Err: err}
}
