package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	storeBatch = 1000
	takeBatch  = 1000
	stall      = 30 * time.Second
)

var errNoReader = errors.New("etcd-wal has put, fill and reopen only: a write-ahead log has no reader, it is read as a whole at the start")

// peer is a log or channel inside this process.
type peer interface {
	open() error
	// producer returns a put of one producer: it stores so many events and returns when they are durable.
	producer() (func(events int) error, error)
	// reader returns a take: up to so many events, with the reader's place made durable as the peer does.
	reader() (func(most int) (int, error), error)
	// seal makes durable what was stored for take or fill.
	seal() error
	// note says what the peer's durability lacks, or nothing.
	note() string
}

type bench struct {
	o             options
	peer          peer
	stored, taken atomic.Int64
	roundIsOver   atomic.Bool
}

func (b *bench) put(both bool) (string, error) {
	if err := b.peer.open(); err != nil {
		return "", err
	}
	var take func(int) (int, error)
	if both {
		var err error
		if take, err = b.peer.reader(); err != nil {
			return "", err
		}
	}
	var puts []func(int) error
	for range b.o.producers {
		put, err := b.peer.producer()
		if err != nil {
			return "", err
		}
		puts = append(puts, put)
	}
	var bytesBefore int64
	if b.o.warmup > 0 {
		b.round(b.o.warmup, puts, take)
		bytesBefore = bytesWritten()
	}
	before := b.stored.Load()
	r := begin(b.o, b.o.producers, b.peer.note(), bytesBefore)
	seconds, calls := b.round(b.o.seconds, puts, take)
	return r.end(b.stored.Load()-before, seconds, calls), nil
}

// round puts for so long, with a reader beside if there is a take; returns what it took in seconds, and the puts' times.
func (b *bench) round(seconds float64, puts []func(int) error, take func(int) (int, error)) (float64, *histogram) {
	b.roundIsOver.Store(false)
	own := make([]histogram, len(puts))
	var producers, reader sync.WaitGroup
	start := time.Now()
	end := start.Add(time.Duration(seconds * 1e9))
	for i, put := range puts {
		producers.Go(func() {
			for now := time.Now(); now.Before(end); {
				if err := put(b.o.batch); err != nil {
					fail(err)
				}
				after := time.Now()
				own[i].add(after.Sub(now))
				now = after
				b.stored.Add(int64(b.o.batch))
			}
		})
	}
	if take != nil {
		reader.Go(func() { b.readAll(take) })
	}
	producers.Wait()
	b.roundIsOver.Store(true)
	reader.Wait()
	took := time.Since(start).Seconds()
	calls := &histogram{}
	for i := range own {
		calls.merge(&own[i])
	}
	return took, calls
}

// readAll takes until the round is over and nothing is left.
func (b *bench) readAll(take func(int) (int, error)) {
	progress := time.Now()
	for {
		over := b.roundIsOver.Load()
		n, err := b.takeSome(take, takeBatch)
		switch {
		case err != nil:
			fail(err)
		case n > 0:
			progress = time.Now()
		case b.taken.Load() < b.stored.Load():
			if time.Since(progress) > stall {
				fail(b.stalled())
			}
		case over:
			return
		default:
			time.Sleep(100 * time.Microsecond)
			progress = time.Now()
		}
	}
}

// takeSome asks for no more than was stored, so that it never waits for a batch to become full.
func (b *bench) takeSome(take func(int) (int, error), most int) (int, error) {
	most = int(min(int64(most), b.stored.Load()-b.taken.Load()))
	if most == 0 {
		return 0, nil
	}
	n, err := take(most)
	b.taken.Add(int64(n))
	return n, err
}

func (b *bench) stalled() error {
	return fmt.Errorf("the reader has %d of %d events and gets no more", b.taken.Load(), b.stored.Load())
}

func (b *bench) take() (string, error) {
	if err := b.store(); err != nil {
		return "", err
	}
	take, err := b.peer.reader()
	if err != nil {
		return "", err
	}
	calls := &histogram{}
	r := begin(b.o, 1, b.peer.note(), 0)
	start := time.Now()
	now := start
	for b.taken.Load() < b.o.events {
		n, err := b.takeSome(take, b.o.batch)
		if err != nil {
			return "", err
		}
		if n == 0 {
			return "", b.stalled()
		}
		after := time.Now()
		calls.add(after.Sub(now))
		now = after
	}
	return r.end(b.o.events, now.Sub(start).Seconds(), calls), nil
}

func (b *bench) fill() (string, error) {
	r := begin(b.o, 1, b.peer.note(), 0)
	if err := b.store(); err != nil {
		return "", err
	}
	return r.untimed(b.o.events), nil
}

func (b *bench) store() error {
	if err := b.peer.open(); err != nil {
		return err
	}
	put, err := b.peer.producer()
	if err != nil {
		return err
	}
	for b.stored.Load() < b.o.events {
		n := min(storeBatch, b.o.events-b.stored.Load())
		if err := put(int(n)); err != nil {
			return err
		}
		b.stored.Add(n)
	}
	return b.peer.seal()
}

func (b *bench) reopen() (string, error) {
	r := begin(b.o, 1, b.peer.note(), 0)
	start := time.Now()
	if err := b.peer.open(); err != nil {
		return "", err
	}
	take, err := b.peer.reader()
	if err != nil {
		return "", err
	}
	n, err := take(1)
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", fmt.Errorf("no event in %s; run fill there first", b.o.dir)
	}
	return r.end(int64(n), time.Since(start).Seconds(), &histogram{}), nil
}
