package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

const (
	stream    = "bench"
	readyWait = 5 * time.Minute
	// What `put` leaves on the disk; the oldest messages beyond it are discarded.
	keepBytes = 2 << 30
	// The server's in-process connections are pipes, and its flusher writes a few milliseconds later.
	flushWait = time.Second
)

// natsStore is an embedded NATS server with a JetStream file store, each event one message.
type natsStore struct {
	o      options
	server *server.Server
}

func (n *natsStore) open() error {
	// A sync for each message makes storing for take and fill a matter of minutes; seal makes up for it.
	return n.start(n.o.workload != "take" && n.o.workload != "fill")
}

func (n *natsStore) start(syncAlways bool) error {
	s, err := server.NewServer(&server.Options{
		ServerName:         "bench",
		DontListen:         true,
		NoSigs:             true,
		NoLog:              true,
		JetStream:          true,
		JetStreamMaxMemory: 1 << 30,
		JetStreamMaxStore:  1 << 40,
		StoreDir:           n.o.dir,
		SyncAlways:         syncAlways,
		MaxPayload:         int32(n.o.body + 1<<20),
		// With the defaults the server turns messages away when many large batches come at once.
		StreamMaxBufferedMsgs: 2*n.o.producers*n.o.batch + 10_000,
		StreamMaxBufferedSize: 1 << 30,
	})
	if err != nil {
		return err
	}
	s.Start()
	n.server = s
	if !s.ReadyForConnections(readyWait) {
		return errors.New("the NATS server does not get ready")
	}
	js, err := n.connect()
	if err != nil {
		return err
	}
	config := jetstream.StreamConfig{Name: stream, Subjects: []string{stream}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld}
	if n.o.workload == "put" {
		config.MaxBytes = keepBytes
	}
	_, err = js.CreateOrUpdateStream(context.Background(), config)
	return err
}

func (n *natsStore) connect() (jetstream.JetStream, error) {
	c, err := nats.Connect("", nats.InProcessServer(n.server))
	if err != nil {
		return nil, err
	}
	return jetstream.New(c, jetstream.WithPublishAsyncMaxPending(max(n.o.batch, storeBatch)))
}

func (n *natsStore) producer() (func(int) error, error) {
	js, err := n.connect()
	if err != nil {
		return nil, err
	}
	body := make([]byte, n.o.body)
	return func(events int) error {
		acks := make([]jetstream.PubAckFuture, events)
		for i := range acks {
			m := &nats.Msg{Subject: stream, Header: nats.Header{"host": {"bench"}, "n": {"1"}}, Data: body}
			ack, err := js.PublishMsgAsync(m)
			if err != nil {
				return err
			}
			acks[i] = ack
		}
		for _, ack := range acks {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				return err
			}
		}
		return nil
	}, nil
}

func (n *natsStore) reader() (func(int) (int, error), error) {
	js, err := n.connect()
	if err != nil {
		return nil, err
	}
	consumer, err := js.CreateOrUpdateConsumer(context.Background(), stream, jetstream.ConsumerConfig{
		Durable: "bench", AckPolicy: jetstream.AckAllPolicy, MaxAckPending: -1,
	})
	if err != nil {
		return nil, err
	}
	return func(most int) (int, error) {
		messages, err := consumer.Fetch(most)
		if err != nil {
			return 0, err
		}
		taken := 0
		var last jetstream.Msg
		for m := range messages.Messages() {
			last = m
			taken++
		}
		if err := messages.Error(); err != nil || last == nil {
			return taken, err
		}
		return taken, last.DoubleAck(context.Background())
	}, nil
}

func (n *natsStore) seal() error {
	if n.o.workload == "take" {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		return n.start(true)
	}
	// For fill the server must not be shut down, so the file system is asked.
	time.Sleep(flushWait)
	dir, err := os.Open(n.o.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

func (n *natsStore) note() string {
	switch n.o.workload {
	case "take", "both":
		return "the reader's place is acknowledged before it is on the disk"
	}
	return ""
}
