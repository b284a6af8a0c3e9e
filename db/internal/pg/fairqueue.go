package pg

import "slices"

// fairQueue holds what waits, by owner, and gives it out round robin: one item of each
// owner that waits, then the next item of each. One owner's items leave in the order in
// which they came. It is not safe for concurrent use.
type fairQueue[T comparable] struct {
	// owners are those that have items, the next turn first.
	owners []*ownedItems[T]
	// max bounds the items.
	max Backlog
	n   int
}

// ownedItems are one owner's items, the oldest first. There is at least one.
type ownedItems[T comparable] struct {
	owner string
	items []T
}

// Backlog bounds what waits. 0 means no bound.
type Backlog struct {
	// Owner is how many items one owner may have, all is how many there may be.
	Owner, All int
	// Refuse makes the error for what has no place. Required with a bound.
	Refuse func() error
}

// push adds an item. refused is the item that is not admitted. It is this one if its owner has as
// many as it may have. Otherwise, with the queue full, it is the newest item of the owner that has
// most.
func (q *fairQueue[T]) push(owner string, item T) (refused T, full bool) {
	o := q.of(owner)
	if o != nil && q.max.Owner > 0 && len(o.items) >= q.max.Owner {
		return item, true
	}
	if o == nil {
		o = &ownedItems[T]{owner: owner}
		q.owners = append(q.owners, o)
	}
	o.items = append(o.items, item)
	q.n++
	if q.max.All == 0 || q.n <= q.max.All {
		return refused, false
	}
	most := slices.MaxFunc(q.owners, func(a, b *ownedItems[T]) int { return len(a.items) - len(b.items) })
	if len(most.items) == len(o.items) { // who comes last does not push another out that has no more
		most = o
	}
	refused = most.items[len(most.items)-1]
	q.remove(most.owner, refused)
	return refused, true
}

// pop takes the oldest item of the first owner that may have a turn, whose next turn comes
// after all others'.
func (q *fairQueue[T]) pop(may func(owner string, item T) bool) (owner string, item T, ok bool) {
	for i, o := range q.owners {
		if !may(o.owner, o.items[0]) {
			continue
		}
		owner, item = o.owner, o.items[0]
		q.owners = slices.Delete(q.owners, i, i+1)
		q.n--
		if o.items = o.items[1:]; len(o.items) > 0 {
			q.owners = append(q.owners, o)
		}
		return owner, item, true
	}
	return owner, item, false
}

// remove takes an item out, if it is there, and reports whether it was.
func (q *fairQueue[T]) remove(owner string, item T) bool {
	o := q.of(owner)
	if o == nil {
		return false
	}
	i := slices.Index(o.items, item)
	if i < 0 {
		return false
	}
	q.n--
	if o.items = slices.Delete(o.items, i, i+1); len(o.items) == 0 {
		q.owners = slices.DeleteFunc(q.owners, func(other *ownedItems[T]) bool { return other == o })
	}
	return true
}

func (q *fairQueue[T]) of(owner string) *ownedItems[T] {
	for _, o := range q.owners {
		if o.owner == owner {
			return o
		}
	}
	return nil
}
