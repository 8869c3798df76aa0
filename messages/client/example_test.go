package client_test

import (
	"context"
	"fmt"
	"log"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/client"
)

// Choose the ID before the first message, keep it, and submit again under it whatever happened: it runs once.
func ExampleClient() {
	ctx := context.Background()
	nc, err := nats.Connect(nats.DefaultURL)
	if err != nil {
		log.Print(err)
		return
	}
	defer nc.Close()
	scoria, err := client.New(nc, "demo")
	if err != nil {
		log.Print(err)
		return
	}
	id := client.NewID()
	if _, err := scoria.Submit(ctx, id, &messages.CreateVolume{Name: "disk", SizeGiB: 1}); err != nil {
		log.Print(err)
		return
	}
	op, err := scoria.Watch(ctx, id, func(op messages.Operation) { fmt.Println(op.Phase, op.Step) })
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(op.Resource, op.Error)
}
