package raftnode

import (
	"encoding/binary"
	"fmt"
	"io"
)

// boltPages walks over the pages of a bbolt file as they lie on the disk. bbolt trusts them: it
// reads behind the end of a page, and goes in a circle for ever where pages do.
type boltPages struct {
	file     io.ReaderAt
	pageSize uint64
	// end is the id behind the last page in use.
	end  uint64
	seen map[uint64]bool
}

// A page is a header (id, flags, number of elements, number of further pages that belong to it)
// and its elements, which are of one size and say where their key and value are.
const (
	boltHeaderSize  = 16
	boltElementSize = 16
	boltBranch      = 1
	boltLeaf        = 2
	// boltIsBucket marks an element of a leaf whose value is a bucket: the id of its root page and
	// a number, and when the id is 0 a page of its own.
	boltIsBucket   = 1
	boltBucketSize = 16
)

var boltOrder = binary.NativeEndian

// walk checks a page and all pages below it.
func (b *boltPages) walk(id uint64) error {
	page, err := b.read(id)
	if err != nil {
		return err
	}
	switch flags := boltOrder.Uint16(page[8:]); flags {
	case boltBranch:
		return b.branch(id, page)
	case boltLeaf:
		return b.leaf(id, page)
	default:
		return fmt.Errorf("page %d is of kind %#x", id, flags)
	}
}

// read returns a page with those that belong to it.
func (b *boltPages) read(id uint64) ([]byte, error) {
	header := make([]byte, boltHeaderSize)
	if id < 2 || id >= b.end {
		return nil, fmt.Errorf("page %d is not among the %d in use", id, b.end)
	}
	if _, err := b.file.ReadAt(header, int64(id*b.pageSize)); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	pages := 1 + uint64(boltOrder.Uint32(header[12:]))
	if boltOrder.Uint64(header) != id || pages > b.end-id {
		return nil, fmt.Errorf("page %d says that it is page %d, and %d pages long", id, boltOrder.Uint64(header), pages)
	}
	for part := id; part < id+pages; part++ {
		if b.seen[part] {
			return nil, fmt.Errorf("page %d is in two places", part)
		}
		b.seen[part] = true
	}
	page := make([]byte, pages*b.pageSize)
	if _, err := b.file.ReadAt(page, int64(id*b.pageSize)); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return page, nil
}

func (b *boltPages) branch(id uint64, page []byte) error {
	elements, err := boltElements(id, page)
	for ; err == nil && len(elements) > 0; elements = elements[boltElementSize:] {
		key, size := boltOrder.Uint32(elements), boltOrder.Uint32(elements[4:])
		// A branch page is all there is between an element and the end of its keys.
		if uint64(key)+uint64(size) > uint64(cap(elements)) {
			return fmt.Errorf("page %d has a key behind its end", id)
		}
		err = b.walk(boltOrder.Uint64(elements[8:]))
	}
	return err
}

func (b *boltPages) leaf(id uint64, page []byte) error {
	elements, err := boltElements(id, page)
	for ; err == nil && len(elements) > 0; elements = elements[boltElementSize:] {
		start := uint64(boltOrder.Uint32(elements[4:])) + uint64(boltOrder.Uint32(elements[8:]))
		end := start + uint64(boltOrder.Uint32(elements[12:]))
		rest := elements[:cap(elements)] // keys and values follow the elements
		if end > uint64(len(rest)) {
			return fmt.Errorf("page %d has a value behind its end", id)
		}
		if boltOrder.Uint32(elements)&boltIsBucket != 0 {
			err = b.bucket(id, rest[start:end:end])
		}
	}
	return err
}

func (b *boltPages) bucket(id uint64, value []byte) error {
	if len(value) < boltBucketSize {
		return fmt.Errorf("page %d has a bucket of %d bytes", id, len(value))
	}
	if root := boltOrder.Uint64(value); root != 0 {
		return b.walk(root)
	}
	return b.leaf(id, value[boltBucketSize:])
}

// boltElements returns the elements of a page, with room for all that follows them.
func boltElements(id uint64, page []byte) ([]byte, error) {
	if len(page) < boltHeaderSize {
		return nil, fmt.Errorf("page %d holds a page of %d bytes", id, len(page))
	}
	size := int(boltOrder.Uint16(page[10:])) * boltElementSize
	if boltHeaderSize+size > len(page) {
		return nil, fmt.Errorf("page %d has more elements than room", id)
	}
	return page[boltHeaderSize : boltHeaderSize+size], nil
}
