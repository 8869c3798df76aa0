package volumenode

import "context"

// Report tells at once what is told every half minute.
func (n *Node) Report(ctx context.Context) { n.report(ctx) }
