package rewrite

// Nested calls take memory of the host that no limit of the guest's covers:
// wazero doubles its stack up to 100 MB, and holds two while it copies. So
// functions that can call themselves, over however many others, count what they
// take, in a global of their own.
//
// What a call takes is estimated, from above: wazero gives each value that it
// has to keep across a call a slot of its own, so a frame is no larger than a
// slot for each local, each value that an instruction makes, and each local
// that was set when two paths meet. What real frames take is a tenth of that.
//
// Functions that cannot call themselves each stand on the stack once at most.
// If the deepest chain of them would take more than half of the cap, every
// function counts.

// graph is who calls whom.
type graph struct {
	on     bool
	starts []int    // of each function's edges
	edges  []uint32 // defined functions, or types with viaType set
	costs  []int    // of each function, or nil
}

const viaType = 1 << 31

func (g *graph) begin() {
	if g.on {
		g.starts = append(g.starts, len(g.edges))
	}
}

func (g *graph) call(s *scanner) {
	switch {
	case !g.on:
	case s.op == opCallIndirect || s.op == opReturnCallIndirect:
		g.edges = append(g.edges, s.arg|viaType)
	case int(s.arg) >= len(s.m.imported):
		g.edges = append(g.edges, s.arg-uint32(len(s.m.imported)))
	}
}

// cost is what a function counts when it is entered, or 0.
func (g *graph) cost(index int) int {
	if g.costs == nil {
		return 0
	}
	return g.costs[index]
}

// frameBytes is more than a call of the function takes on wazero's stack.
func (m *module) frameBytes(b *body) int {
	const overhead = 160 // registers that are saved, the return address, our own locals
	slot := 8
	if m.vectors {
		slot = 16
	}
	return overhead + slot*(b.locals+b.values+b.merges)
}

// count decides which functions count, once all were read.
func (m *module) count() {
	g := &m.graph
	if !g.on {
		return
	}
	g.starts = append(g.starts, len(g.edges))
	c := newComponents(m)
	c.run()
	half := m.limits.CallStack / 2
	g.costs = make([]int, len(m.bodies))
	for i := range m.bodies {
		if c.cyclic[i] || c.deepest > half {
			g.costs[i] = min(m.frameBytes(&m.bodies[i]), m.limits.CallStack+1)
		}
	}
}

// components finds the functions that can call themselves, and the deepest
// chain of those that cannot. Its nodes are the defined functions, and behind
// them the types: an indirect call goes to a type, and from there to every
// function of that type that a reference exists of.
// Source: R. Tarjan, "Depth-first search and linear graph algorithms", 1972.
type components struct {
	m        *module
	kinds    []int      // of each type, the first that equals it
	targets  [][]uint32 // of each type, the functions that have references
	cyclic   []bool
	below    []int // the deepest chain from a node on, itself included
	deepest  int
	order    []uint32 // when a node was found, from 1
	low      []uint32
	stacked  []bool
	stack    []uint32
	path     []visit
	sequence uint32
}

type visit struct {
	node uint32
	next int // edge to follow
}

func newComponents(m *module) *components {
	functions, nodes := len(m.bodies), len(m.bodies)+len(m.types)
	c := &components{
		m: m, kinds: make([]int, len(m.types)), targets: make([][]uint32, len(m.types)),
		cyclic: make([]bool, nodes), below: make([]int, nodes),
		order: make([]uint32, nodes), low: make([]uint32, nodes), stacked: make([]bool, nodes),
	}
	first := map[string]int{}
	for i, t := range m.types {
		key := string(t.params) + "\x00" + string(t.results)
		if _, ok := first[key]; !ok {
			first[key] = i
		}
		c.kinds[i] = first[key]
	}
	for f := range functions {
		if number := f + len(m.imported); m.addressed != nil && m.addressed[number] {
			kind := c.kinds[m.functions[f]]
			c.targets[kind] = append(c.targets[kind], uint32(f))
		}
	}
	return c
}

// edges are the nodes that a node leads to.
func (c *components) edges(node uint32) []uint32 {
	g := &c.m.graph
	if int(node) < len(c.m.bodies) {
		return g.edges[g.starts[node]:g.starts[node+1]]
	}
	return c.targets[int(node)-len(c.m.bodies)]
}

// target is the node that an edge means.
func (c *components) target(edge uint32) uint32 {
	if edge&viaType != 0 {
		return uint32(len(c.m.bodies) + c.kinds[edge&^viaType])
	}
	return edge
}

func (c *components) run() {
	for n := range c.m.bodies {
		if c.order[n] == 0 {
			c.visit(uint32(n))
		}
	}
}

func (c *components) enter(n uint32) {
	c.sequence++
	c.order[n], c.low[n], c.stacked[n] = c.sequence, c.sequence, true
	c.stack = append(c.stack, n)
	c.path = append(c.path, visit{node: n})
}

func (c *components) visit(root uint32) {
	c.enter(root)
	for len(c.path) > 0 {
		v := &c.path[len(c.path)-1]
		if edges := c.edges(v.node); v.next < len(edges) {
			t := c.target(edges[v.next])
			v.next++
			switch {
			case c.order[t] == 0:
				c.enter(t)
			case c.stacked[t]:
				c.low[v.node] = min(c.low[v.node], c.order[t])
				c.cyclic[v.node] = c.cyclic[v.node] || t == v.node
			default:
				c.below[v.node] = max(c.below[v.node], c.below[t])
			}
			continue
		}
		n := v.node
		c.path = c.path[:len(c.path)-1]
		c.leave(n)
		if len(c.path) > 0 {
			up := c.path[len(c.path)-1].node
			c.low[up] = min(c.low[up], c.low[n])
			c.below[up] = max(c.below[up], c.below[n])
		}
	}
}

// leave closes the component that begins at n, if one does.
func (c *components) leave(n uint32) {
	if c.low[n] == c.order[n] {
		size := 0
		for {
			t := c.stack[len(c.stack)-1]
			c.stack = c.stack[:len(c.stack)-1]
			c.stacked[t] = false
			if size++; t != n || size > 1 {
				c.cyclic[t] = true
			}
			if t == n {
				break
			}
		}
	}
	if int(n) < len(c.m.bodies) {
		c.below[n] += c.m.frameBytes(&c.m.bodies[n])
		c.deepest = max(c.deepest, c.below[n])
	}
}

// descend counts the call under way, and traps past the cap.
func (w *writer) descend() {
	w.out = appendOp(w.out, opGlobalGet, w.m.depth())
	w.out = appendOp(w.out, opLocalTee, w.outside)
	w.out = appendI32Const(w.out, int32(w.counted))
	w.out = append(w.out, opI32Add)
	w.out = appendOp(w.out, opLocalTee, w.inside)
	w.out = appendOp(w.out, opGlobalSet, w.m.depth())
	w.out = appendOp(w.out, opLocalGet, w.inside)
	w.out = appendI32Const(w.out, int32(w.m.limits.CallStack))
	w.out = append(w.out, opI32GtU, opIf, emptyType)
	w.out = appendOp(w.out, opCall, w.m.helper(deepHelper))
	w.out = append(w.out, opEnd)
}

// ascend forgets the call under way.
func (w *writer) ascend() {
	w.out = appendOp(w.out, opLocalGet, w.outside)
	w.out = appendOp(w.out, opGlobalSet, w.m.depth())
}

// replaced forgets the call under way where a tail call takes its place. It
// does so only if all that goes in and out fits registers: else wazero makes it
// a call like any other.
func (w *writer) replaced(callee signature) {
	if w.counted > 0 && inRegisters(callee.params) && inRegisters(callee.results) {
		w.ascend()
	}
}

// inRegisters holds for every processor that wazero compiles for.
func inRegisters(types []byte) bool {
	const integers, floats = 6, 8
	n, f := 0, 0
	for _, t := range types {
		switch t {
		case typeF32, typeF64, typeV128:
			f++
		default:
			n++
		}
	}
	return n <= integers && f <= floats
}
