package node

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/sls"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Protocols with ports at the usual place.
var portProtocols = map[uint32]bool{6: true, 17: true, 33: true, 132: true, 136: true}

// RequestedFlow returns the flow of a request. Errors wrap ErrInvalid.
func RequestedFlow(r *api.ReserveRequest) (wire.Flow, error) {
	var f wire.Flow
	var err error
	if f.Source, err = adminEndpoint("source", r.GetSource()); err != nil {
		return f, err
	}
	if f.Destination, err = adminEndpoint("destination", r.GetDestination()); err != nil {
		return f, err
	}
	if f.Source.Addr().Is4() != f.Destination.Addr().Is4() {
		return f, fmt.Errorf("%w: source %s and destination %s are of two IP versions", ErrInvalid, f.Source, f.Destination)
	}
	if r.GetProtocol() > math.MaxUint8 {
		return f, fmt.Errorf("%w: protocol %d, expected an IP protocol number up to 255, or 0 for any", ErrInvalid, r.GetProtocol())
	}
	f.HasProtocol, f.Protocol = r.GetProtocol() != 0, uint8(r.GetProtocol())
	for _, port := range []struct {
		name string
		from uint32
		has  *bool
		to   *uint16
	}{
		{"source port", r.GetSourcePort(), &f.HasSrcPort, &f.SrcPort},
		{"destination port", r.GetDestinationPort(), &f.HasDstPort, &f.DstPort},
	} {
		switch {
		case port.from > math.MaxUint16:
			return f, fmt.Errorf("%w: %s %d, expected at most 65535, or 0 for any", ErrInvalid, port.name, port.from)
		case port.from != 0 && !portProtocols[r.GetProtocol()]:
			return f, fmt.Errorf("%w: %s %d with protocol %d, expected a protocol that has ports (tcp 6, udp 17, dccp 33, sctp 132, udplite 136)", ErrInvalid, port.name, port.from, r.GetProtocol())
		}
		*port.has, *port.to = port.from != 0, uint16(port.from)
	}
	return f, nil
}

// adminEndpoint reads an address, which is a prefix of full length, or a prefix.
func adminEndpoint(what, text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%w: %s %q, expected an IPv4 or IPv6 address or prefix", ErrInvalid, what, text)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%w: %s %q has host bits, expected %s or an address", ErrInvalid, what, text, p.Masked())
	}
	return p, nil
}

// maxPriority is the highest priority that an SLS can name.
const maxPriority = 7

// checkReserve checks what needs no knowledge of the node.
func checkReserve(r *api.ReserveRequest) error {
	if _, err := RequestedFlow(r); err != nil {
		return err
	}
	if r.GetSessionId() != "" {
		if _, err := ParseSessionID(r.GetSessionId()); err != nil {
			return err
		}
	}
	alone := r.GetClass() == "" && r.GetRate() == 0 && r.GetPeak() == 0 && r.GetBurst() == 0 && r.GetMinRate() == 0 && r.GetPriority() == 0
	switch {
	case r.GetQspec() != "" && !alone:
		return fmt.Errorf("%w: a QSPEC and class, rate, peak, burst, minimum rate or priority beside it; expected one of the two", ErrInvalid)
	case r.GetQspec() != "":
	case r.GetClass() == "":
		return fmt.Errorf("%w: no class, expected a PHB such as EF or AF41, or a DSCP", ErrInvalid)
	case r.GetRate() == 0 && (r.GetPeak() != 0 || r.GetBurst() != 0 || r.GetMinRate() != 0):
		return fmt.Errorf("%w: no rate, and a peak, burst or minimum rate; expected a rate in bit/s, or the class alone", ErrInvalid)
	case r.GetPeak() != 0 && r.GetPeak() < r.GetRate():
		return fmt.Errorf("%w: peak %d bit/s is below the rate, %d bit/s", ErrInvalid, r.GetPeak(), r.GetRate())
	case r.GetMinRate() > r.GetRate():
		return fmt.Errorf("%w: minimum rate %d bit/s is above the rate, %d bit/s", ErrInvalid, r.GetMinRate(), r.GetRate())
	case r.GetPriority() > maxPriority:
		return fmt.Errorf("%w: priority %d, expected 1 (normal) to %d, or 0 for not said", ErrInvalid, r.GetPriority(), maxPriority)
	}
	return nil
}

// withTimeout adds the request's timeout to the context.
func withTimeout(ctx context.Context, d *durationpb.Duration) (context.Context, context.CancelFunc, error) {
	if d == nil {
		return ctx, func() {}, nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() <= 0 {
		return nil, nil, fmt.Errorf("%w: timeout %s, expected a duration above zero", ErrInvalid, d.AsDuration())
	}
	ctx, cancel := context.WithTimeout(ctx, d.AsDuration())
	return ctx, cancel, nil
}

type reservationService struct {
	api.UnimplementedReservationServiceServer
	backend Backend
}

func (s reservationService) Reserve(ctx context.Context, r *api.ReserveRequest) (*api.Outcome, error) {
	if err := checkReserve(r); err != nil {
		return nil, err
	}
	ctx, cancel, err := withTimeout(ctx, r.GetTimeout())
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.backend.Reserve(ctx, r)
}

func (s reservationService) Query(ctx context.Context, r *api.ReserveRequest) (*api.Outcome, error) {
	if err := checkReserve(r); err != nil {
		return nil, err
	}
	ctx, cancel, err := withTimeout(ctx, r.GetTimeout())
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.backend.Query(ctx, r)
}

func (s reservationService) Modify(ctx context.Context, r *api.ModifyRequest) (*api.Outcome, error) {
	if _, err := ParseSessionID(r.GetSessionId()); err != nil {
		return nil, err
	}
	rates := r.GetRate() != 0 || r.GetPeak() != 0 || r.GetBurst() != 0 || r.GetMinRate() != 0
	switch {
	case r.GetQspec() != "" && rates:
		return nil, fmt.Errorf("%w: a QSPEC and rates or a burst beside it; expected one of the two", ErrInvalid)
	case r.GetQspec() == "" && r.GetTimes() == "" && !rates:
		return nil, fmt.Errorf("%w: nothing to change; expected a rate, peak, burst, minimum rate, times or a QSPEC", ErrInvalid)
	case max(r.GetRate(), r.GetPeak(), r.GetMinRate()) > 8*sls.MaxRate:
		return nil, fmt.Errorf("%w: a rate of more than %d bit/s", ErrInvalid, uint64(8*sls.MaxRate))
	case r.GetRate() != 0 && r.GetMinRate() > r.GetRate():
		return nil, fmt.Errorf("%w: minimum rate %d bit/s is above the rate, %d bit/s", ErrInvalid, r.GetMinRate(), r.GetRate())
	}
	ctx, cancel, err := withTimeout(ctx, r.GetTimeout())
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.backend.Modify(ctx, r)
}

func (s reservationService) Watch(r *api.WatchRequest, stream grpc.ServerStreamingServer[api.WatchEvent]) error {
	sid, err := ParseSessionID(r.GetSessionId())
	if err != nil {
		return err
	}
	return s.backend.Watch(stream.Context(), sid, stream.Send)
}

func (s reservationService) Release(ctx context.Context, r *api.ReleaseRequest) (*api.Outcome, error) {
	sid, err := ParseSessionID(r.GetSessionId())
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := withTimeout(ctx, r.GetTimeout())
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.backend.Release(ctx, sid)
}

func (s reservationService) List(ctx context.Context, r *api.ListReservationsRequest) (*api.ListReservationsResponse, error) {
	if r.GetSource() != "" {
		if _, err := adminEndpoint("source", r.GetSource()); err != nil {
			return nil, err
		}
	}
	if r.GetDestination() != "" {
		if _, err := adminEndpoint("destination", r.GetDestination()); err != nil {
			return nil, err
		}
	}
	if r.GetLimit() == 0 {
		r.Limit = 1000
	}
	return s.backend.ListReservations(ctx, r)
}

func (s reservationService) Get(ctx context.Context, r *api.GetReservationRequest) (*api.Reservation, error) {
	sid, err := ParseSessionID(r.GetSessionId())
	if err != nil {
		return nil, err
	}
	return s.backend.GetReservation(ctx, sid)
}

type slsService struct {
	api.UnimplementedSLSServiceServer
	backend Backend
}

func (s slsService) Apply(ctx context.Context, r *api.ApplyRequest) (*api.ApplyResponse, error) {
	if len(r.GetYaml()) == 0 {
		return nil, fmt.Errorf("%w: %s is empty, expected one or more SLSs in YAML", ErrInvalid, r.GetName())
	}
	return s.backend.ApplySLS(ctx, r, callerName(ctx))
}

func (s slsService) List(ctx context.Context, _ *api.ListSLSRequest) (*api.ListSLSResponse, error) {
	list, err := s.backend.ListSLS(ctx)
	if err != nil {
		return nil, err
	}
	return &api.ListSLSResponse{Sls: list}, nil
}

func (s slsService) Show(ctx context.Context, r *api.ShowSLSRequest) (*api.SLS, error) {
	if r.GetId() == "" {
		return nil, fmt.Errorf("%w: no SLS id", ErrInvalid)
	}
	return s.backend.ShowSLS(ctx, r.GetId())
}

func (s slsService) Usage(ctx context.Context, r *api.UsageRequest) (*api.UsageResponse, error) {
	at := time.Now()
	if r.GetAt() != nil {
		if err := r.GetAt().CheckValid(); err != nil {
			return nil, fmt.Errorf("%w: at: %w", ErrInvalid, err)
		}
		at = r.GetAt().AsTime()
	}
	usage, err := s.backend.SLSUsage(ctx, r.GetId(), at)
	if err != nil {
		return nil, err
	}
	return &api.UsageResponse{At: timestamppb.New(at), Usage: usage}, nil
}

func (s slsService) Delete(ctx context.Context, r *api.DeleteSLSRequest) (*api.DeleteSLSResponse, error) {
	if r.GetId() == "" {
		return nil, fmt.Errorf("%w: no SLS id", ErrInvalid)
	}
	return s.backend.DeleteSLS(ctx, r, callerName(ctx))
}

func (s slsService) Plan(ctx context.Context, r *api.ApplyRequest) (*api.ApplyResponse, error) {
	if len(r.GetYaml()) == 0 {
		return nil, fmt.Errorf("%w: %s is empty, expected one or more SLSs in YAML", ErrInvalid, r.GetName())
	}
	return s.backend.PlanSLS(ctx, r)
}

func (s slsService) History(ctx context.Context, r *api.SLSHistoryRequest) (*api.SLSHistoryResponse, error) {
	if r.GetId() == "" {
		return nil, fmt.Errorf("%w: no SLS id", ErrInvalid)
	}
	return s.backend.SLSHistory(ctx, r.GetId())
}

func (s slsService) Rollback(ctx context.Context, r *api.RollbackRequest) (*api.ApplyResponse, error) {
	if r.GetId() == "" {
		return nil, fmt.Errorf("%w: no SLS id", ErrInvalid)
	}
	return s.backend.RollbackSLS(ctx, r, callerName(ctx))
}

func (s slsService) Confirm(ctx context.Context, r *api.ConfirmRequest) (*api.ApplyResponse, error) {
	if r.GetId() == "" {
		return nil, fmt.Errorf("%w: no SLS id", ErrInvalid)
	}
	return s.backend.ConfirmSLS(ctx, r, callerName(ctx))
}

func (s slsService) Backup(_ *api.BackupRequest, stream grpc.ServerStreamingServer[api.BackupChunk]) error {
	return s.backend.Backup(stream.Context(), chunks{stream})
}

// chunks sends what is written to it.
type chunks struct {
	stream grpc.ServerStreamingServer[api.BackupChunk]
}

func (c chunks) Write(b []byte) (int, error) {
	for piece := range slices.Chunk(b, 64<<10) {
		if err := c.stream.Send(&api.BackupChunk{Data: piece}); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func (s slsService) Match(ctx context.Context, r *api.MatchRequest) (*api.MatchResponse, error) {
	return s.backend.MatchSLS(ctx, r)
}

func (s slsService) Calendar(ctx context.Context, r *api.CalendarRequest) (*api.CalendarResponse, error) {
	if r.GetId() == "" {
		return nil, fmt.Errorf("%w: no SLS id", ErrInvalid)
	}
	if d := r.GetLength(); d != nil {
		if err := d.CheckValid(); err != nil {
			return nil, fmt.Errorf("%w: length: %w", ErrInvalid, err)
		}
	}
	return s.backend.SLSCalendar(ctx, r)
}

type nodeService struct {
	api.UnimplementedNodeServiceServer
	backend Backend
}

func (s nodeService) Status(ctx context.Context, _ *api.StatusRequest) (*api.NodeStatus, error) {
	return s.backend.Status(ctx)
}

func (s nodeService) Routes(ctx context.Context, r *api.RoutesRequest) (*api.RoutesResponse, error) {
	if r.GetLookup() != "" {
		if _, err := adminEndpoint("lookup", r.GetLookup()); err != nil {
			return nil, err
		}
	}
	if r.GetLimit() == 0 {
		r.Limit = 1000
	}
	return s.backend.Routes(ctx, r)
}

func (s nodeService) Trace(ctx context.Context, r *api.TraceRequest) (*api.TraceResponse, error) {
	sid, err := ParseSessionID(r.GetSessionId())
	if err != nil {
		return nil, err
	}
	events, err := s.backend.Trace(ctx, sid)
	if err != nil {
		return nil, err
	}
	return &api.TraceResponse{Events: events}, nil
}

func (s nodeService) Reload(ctx context.Context, r *api.ReloadRequest) (*api.ReloadResponse, error) {
	return s.backend.Reload(ctx, r.GetDryRun())
}

func (s nodeService) State(ctx context.Context, r *api.StateRequest) (*api.StateResponse, error) {
	if r.GetSessionId() != "" {
		if _, err := ParseSessionID(r.GetSessionId()); err != nil {
			return nil, err
		}
	}
	if r.GetLimit() == 0 {
		r.Limit = 100
	}
	return s.backend.State(ctx, r)
}
