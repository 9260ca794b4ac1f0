package wire

// check applies the grammar of RFC 5810 §7 to a message that was read or is to
// be written: tables 1 and 2, and the limits.
func (m *Message) check() error {
	if err := m.Header.check(); err != nil {
		return err
	}
	switch n := len(m.Select); {
	case m.Type.selects() && m.Type != AssociationSetup && n == 0:
		return failure(EInvalidTLV, -1, "%v without an LFBselect-TLV", m.Type)
	case !m.Type.selects() && n > 0:
		return failure(EInvalidTLV, -1, "%v with an LFBselect-TLV", m.Type)
	case m.Type == AssociationSetup && n > 2, m.Type == EventNotification && n > 1:
		return failure(EInvalidTLV, -1, "%v with %d LFBselect-TLVs", m.Type, n)
	}
	if has := len(m.Redirect) > 0; has != (m.Type == PacketRedirect) {
		return failure(EInvalidTLV, -1, "%v with %d REDIRECT-TLVs", m.Type, len(m.Redirect))
	}
	c := checker{nodes: len(m.Select) + len(m.Redirect)}
	for i := range m.Select {
		if err := c.lfbSelect(m.Type, i, &m.Select[i]); err != nil {
			return err
		}
	}
	for i := range m.Redirect {
		r := &m.Redirect[i]
		if len(r.Metadata) == 0 && !r.HasPacket {
			return failure(EInvalidTLV, -1, "REDIRECT-TLV %d is empty", i)
		}
		if !r.HasPacket && len(r.Packet) > 0 {
			return failure(EInvalidTLV, -1, "REDIRECT-TLV %d has a packet and says that it has none", i)
		}
		c.nodes += len(r.Metadata)
	}
	if c.nodes > MaxNodes {
		return failure(EMemoryError, -1, "%d parts in one message, want at most %d", c.nodes, MaxNodes)
	}
	return nil
}

type checker struct{ nodes int }

func (c *checker) lfbSelect(t MessageType, i int, s *LFBSelect) error {
	if t == AssociationSetup && s.Class != FEObject && s.Class != FEProtocol {
		return failure(EInvalidTLV, -1, "LFBselect %d: %v for LFB class %d, want FE Object or FE Protocol", i, t, s.Class)
	}
	if len(s.Operations) == 0 && t != AssociationSetup {
		return failure(EInvalidTLV, -1, "LFBselect %d: no operation", i)
	}
	c.nodes += len(s.Operations)
	for j := range s.Operations {
		o := &s.Operations[j]
		if !t.allows(o.Type) {
			return failure(EInvalidTLV, -1, "LFBselect %d: %v in %v", i, o.Type, t)
		}
		var problem string
		code := EInvalidTLV
		switch o.Type {
		case Commit, TRComp:
			if len(o.Paths) > 0 || o.Result != nil {
				problem = "is not empty"
			}
		case CommitResponse:
			if o.Result == nil || len(o.Paths) > 0 {
				problem = "is not one result"
			} else {
				problem = c.result(o.Result)
			}
		default:
			if len(o.Paths) == 0 || o.Result != nil {
				problem = "has no path, or a result outside of one"
			} else {
				code, problem = c.paths(o.Type, o.Paths, 1, false)
			}
		}
		if problem != "" {
			return failure(code, -1, "LFBselect %d: operation %d, %v: %s", i, j, o.Type, problem)
		}
	}
	return nil
}

// paths returns what is wrong with a list of paths, "" for nothing. ranged says
// that a path above selects by range.
func (c *checker) paths(o OperType, list []PathData, depth int, ranged bool) (ResultCode, string) {
	if depth > MaxDepth {
		return EInvalidPath, "paths are nested too deep"
	}
	c.nodes += len(list)
	for i := range list {
		p := &list[i]
		if len(p.IDs) > MaxIDs {
			return EInvalidPath, "a path has too many IDs"
		}
		if p.Key != nil {
			c.nodes++
		}
		if r := p.Range; r != nil {
			c.nodes++
			switch {
			case p.Key != nil:
				return EInvalidTFlags, "a path selects both by key and by range"
			case !o.ranges():
				return EInvalidTFlags, "a table range is for GET and DEL"
			case ranged:
				return EInvalidTFlags, "a table range inside a table range"
			case r.Start > r.End:
				return EInvalidParameters, "a table range ends before it starts"
			}
		}
		if p.Data != FullData && p.Full != nil || p.Data != SparseData && p.Sparse != nil || (p.Data == ResultData) != (p.Result != nil) {
			return EInvalidTLV, "a path has data of another kind than it says"
		}
		c.nodes += len(p.Sparse)
		if p.Result != nil {
			if problem := c.result(p.Result); problem != "" {
				return EInvalidTLV, problem
			}
		}
		if len(p.Paths) == 0 {
			if !o.leaf(p.Data) {
				return EInvalidTLV, "a path ends in data, or in a result, or in nothing, that this operation does not have there"
			}
			continue
		}
		if p.Data != NoData {
			return EInvalidTLV, "a path has both data and further paths"
		}
		if code, problem := c.paths(o, p.Paths, depth+1, ranged || p.Range != nil); problem != "" {
			return code, problem
		}
	}
	return ESuccess, ""
}

func (c *checker) result(r *Result) string {
	c.nodes++
	switch {
	case !r.Extended && r.Code > 0xff:
		return "a result above 0xff needs an EXTENDEDRESULT-TLV"
	case r.Extended && r.HasData, !r.Extended && !r.HasData && r.Data != nil:
		return "a result has data of another kind than it says"
	}
	return ""
}
