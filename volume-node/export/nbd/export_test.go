package nbd

import "net"

// Admit takes a client that came without a listener.
func (s *Server) Admit(nc net.Conn) { s.admit(nc) }
