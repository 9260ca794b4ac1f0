// Package wire reads and writes the messages of the ForCES protocol: RFC 5810
// §6, §7 and appendix A, with the table ranges and extended results of RFC 7391.
//
// Data in FULLDATA-TLVs, and the values of ILVs, are octets here: what they mean
// is said by the LFB class (RFC 5812). All integers are in network byte order.
package wire
