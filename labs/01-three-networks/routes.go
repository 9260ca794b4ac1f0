package three

import (
	"context"
	"fmt"

	"github.com/interqos/interqos/api"
)

// converged is nil when every AS has a route to every other's prefix.
func (l *Lab) converged(ctx context.Context) error {
	for _, n := range l.Nodes {
		for i := range ASs {
			dst := fmt.Sprintf("10.%d.0.10", i+1)
			r, err := n.Admin.Routes(ctx, &api.RoutesRequest{Lookup: dst})
			if err != nil {
				return err
			}
			if len(r.Routes) == 0 {
				return fmt.Errorf("AS%d has no route to %s yet", n.AS, dst)
			}
		}
	}
	return nil
}
