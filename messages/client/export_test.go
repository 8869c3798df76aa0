package client

import "time"

// Hurry shortens the waits before a message is sent again and before Watch asks.
func (c *Client) Hurry(try, look time.Duration) { c.try, c.look = try, look }
