package intradomain

import "slices"

// A hold that displaces (interdomain-qosm §6, Preemption) books only what it needs
// beyond what those reservations have. What one of them gives back, or changes to,
// before the hold is over is made up for by the hold: so nobody else gets it, and a
// hold that is dropped has taken nothing from anybody.

// covers are the commitments beyond which a request is booked: what it may count
// on or, once it is held, what it counts on.
func (b *Book) covers(r *Request, held bool) []*version {
	var all []*version
	if c := b.entries[r.ID].committed; c != nil {
		all = append(all, c)
	}
	for i, id := range r.Displaces {
		if slices.Contains(r.Displaces[:i], id) || id == r.ID {
			continue
		}
		if by, taken := b.displacing[id]; taken && by != r.ID || held && !taken {
			continue // another hold counts on it, or it was not there then
		}
		if c := b.entries[id].committed; c != nil {
			all = append(all, c)
		}
	}
	return all
}

// displace notes what a hold counts on.
func (b *Book) displace(r *Request) {
	for _, id := range r.Displaces {
		if _, taken := b.displacing[id]; !taken && id != r.ID && b.entries[id].committed != nil {
			b.displacing[id] = r.ID
		}
	}
}

// spare forgets it.
func (b *Book) spare(r *Request) {
	for _, id := range r.Displaces {
		if b.displacing[id] == r.ID {
			delete(b.displacing, id)
		}
	}
}

// settle books the hold that counts on a reservation anew, after that has changed.
func (b *Book) settle(id ID) {
	by, ok := b.displacing[id]
	if !ok {
		return
	}
	if b.entries[id].committed == nil {
		delete(b.displacing, id)
	}
	h := b.entries[by].held
	h.unbook()
	h.pieces = nil
	h.plan(b.covers(&h.request, true)...)
	h.book()
}
