// Follows a stream of a deltawire gateway and writes its text to standard output, each piece once. A lost connection is
// resumed at the last position; SPEC §5.5 and §8 say when.
//
//	go run . ws://127.0.0.1:8765 demo
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// message has the fields used of any message, events included.
type message struct {
	Type, Epoch, Message, Reason string
	First, Seq, After            int64
	Data                         struct{ Text string }
}

const shortest, longest = 250 * time.Millisecond, 8 * time.Second

var errEnded = errors.New("the stream has ended")

// follow reads one connection, and keeps query at the position to resume from.
func follow(ctx context.Context, address string, query *string) error {
	connection, _, err := websocket.Dial(ctx, address+*query, &websocket.DialOptions{Subprotocols: []string{"deltawire.v1.json"}})
	if err != nil {
		return err
	}
	defer connection.CloseNow()
	connection.SetReadLimit(4 << 20) // a folded event can carry 1 MiB of text, and JSON escapes it
	var epoch string
	for {
		var got message
		if err := wsjson.Read(ctx, connection, &got); err != nil {
			return err
		}
		switch got.Type {
		case "subscribed":
			epoch = got.Epoch
		case "text_delta":
			fmt.Print(got.Data.Text)
		case "gap":
			log.Printf("events %d to %d are missing: %s", got.First, got.Seq, got.Reason)
		case "problem":
			log.Print(got.Message)
		case "stream_end":
			return errEnded
		}
		if got.Seq > 0 || got.Type == "gap" {
			*query = fmt.Sprintf("?after=%d&epoch=%s", got.Seq, epoch)
		}
	}
}

func main() {
	address := fmt.Sprintf("%s/v1/streams/%s/subscribe", os.Args[1], os.Args[2])
	query := ""
	for wait := shortest; ; wait *= 2 {
		before := query
		err := follow(context.Background(), address, &query)
		switch {
		case errors.Is(err, errEnded):
			return
		case websocket.CloseStatus(err) >= 4500, query == before && wait > longest:
			log.Fatal(err)
		case query != before:
			wait = shortest
		}
		time.Sleep(rand.N(wait)) // at random, so that readers lost together don't come back together
	}
}
