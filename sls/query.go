package sls

import "time"

// Quote is what could be had for a request, without holding anything
// (interdomain-qosm §2: QUERY).
type Quote struct {
	SLS string // that would serve it; the one that has most, where none has all
	// Rate is what could be had throughout Times, octets/s, at most what was
	// asked. 0 of a request that is not relative: nothing.
	Rate uint64
	// Times are when the SLS is available within the intervals asked for, at most
	// as many as the caller has said; empty where none were asked for.
	Times []Interval
	// Full says that all that was asked could be had, in all of its times.
	Full bool
	// Earliest is from when on the full rate could be had, for as long as was
	// asked; zero: at the time asked for, or none found.
	Earliest      time.Time
	Delay, Jitter time.Duration // the SLS's bounds; zero: none agreed
	Loss          float64
	Why           string // one sentence, where not Full
}

// Ask tells what Hold would find, and beyond: which part of the times asked for an
// SLS is available in, at most limit intervals, and how much it has left then. The
// error is a *Refusal with NoSLS or Policy, or wraps ErrRequest.
func (l *Ledger) Ask(now time.Time, r Request, limit int) (Quote, error) {
	l.advance(now)
	if err := l.normalize(&r); err != nil {
		return Quote{}, err
	}
	var old *part
	if res := l.byID[r.ID]; res != nil {
		old = res.committed[r.Leg]
	}
	asked := append([]span(nil), l.spans...)
	l.found = l.index.candidates(l.found[:0], &r)
	var best Quote
	for _, c := range l.found {
		q, ok := l.ask(c.offer, &r, old, asked, limit)
		if !ok {
			continue
		}
		if q.Full {
			return q, nil
		}
		if best.SLS == "" || q.Rate > best.Rate || q.Rate == best.Rate && best.Earliest.IsZero() {
			best = q
		}
	}
	if best.SLS == "" {
		l.spans = append(l.spans[:0], asked...)
		return Quote{}, l.refuse(&r, l.found, old)
	}
	return best, nil
}

// ask quotes one offer; false: its SLS does not take the request's priority.
func (l *Ledger) ask(o *offer, r *Request, old *part, asked []span, limit int) (Quote, bool) {
	s := &o.spec
	best := Quote{SLS: o.entry.sls.ID, Delay: s.Delay, Jitter: s.Jitter, Loss: s.Loss}
	l.spans = append(l.spans[:0], asked...)
	q := l.quote(o, r, old)
	if q.why == badPriority {
		return best, false
	}
	best.Full, best.Why = q.why == canServe, q.why.text(o, r, q.rate)
	if !best.Full {
		if t := l.earliest(o, r); t != forever && t > max(asked[0].from, l.now) {
			best.Earliest = time.Unix(t, 0).UTC()
		}
	}
	if len(r.Intervals) > 0 {
		open := o.entry.when.within(asked, l.now, limit)
		for _, x := range open {
			v := Interval{From: time.Unix(x.from, 0).UTC()}
			if x.until != forever {
				v.Until = time.Unix(x.until, 0).UTC()
			}
			best.Times = append(best.Times, v)
		}
		if len(open) == 0 {
			return best, true
		}
		l.spans = append(l.spans[:0], open...)
		q = l.quote(o, r, old)
	}
	if q.why != notThen {
		best.Rate = q.rate
	}
	return best, true
}

// within returns the parts of spans in which there is availability, none of it
// before now.
func (a *availability) within(spans []span, now int64, limit int) []span {
	var out []span
	for _, s := range spans {
		for t := max(s.from, now); t < s.until && len(out) < limit; {
			w, ok := a.next(t)
			if !ok || w.from >= s.until {
				break
			}
			out = append(out, span{max(w.from, t), min(w.until, s.until)})
			t = w.until
		}
	}
	return out
}
