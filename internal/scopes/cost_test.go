package scopes

import "testing"

func TestAllocations(t *testing.T) {
	roles := manyRoles(300)
	r := mustCompile(t, roles)
	set := NewSet(manyScopes(100)...)
	e := AllOf(One("queue:create-task:highest:proj-7/x"), AnyOf(One("no"), One("queue:create-task:highest:proj-77/*")))
	input := []string{"assume:" + roles[0].ID, "assume:" + roles[7].ID, "x"}
	text := MustParseTemplate(`"queue:get-task:<taskId>"`)
	both := MustParseTemplate(`{"AllOf":["queue:claim-work:<taskQueueId>","queue:worker-id:<workerGroup>/<workerId>"]}`)
	get := func(string) (string, bool) { return "value", true }
	must(t, r.Expand, input)
	for _, c := range []struct {
		name string
		most float64
		run  func()
	}{
		{"Set.Has", 0, func() { set.Has("queue:create-task:highest:proj-7/x*") }},
		{"Set.HasAll", 0, func() { set.HasAll(input) }},
		{"Set.Slice of none", 0, func() { Set{}.Slice() }},
		{"Expr.SatisfiedBy", 0, func() { e.SatisfiedBy(set) }},
		{"Resolver.Expand, cached", 0, func() { _, _ = r.Expand(input) }},
		{"RenderStrings of one", 1, func() { _, _, _ = text.RenderStrings(get) }},
		{"RenderStrings of two", 5, func() { _, _, _ = both.RenderStrings(get) }},
	} {
		if got := testing.AllocsPerRun(100, c.run); got > c.most {
			t.Errorf("%s: %v allocations, at most %v are allowed", c.name, got, c.most)
		}
	}
}

func benchmarkRoles(b *testing.B) []Role {
	roles, _ := realRoles(b)
	return roles
}

func BenchmarkExpandCold(b *testing.B) {
	roles := benchmarkRoles(b)
	r := mustCompile(b, roles)
	for _, c := range []struct {
		name  string
		input func(i int) []string
	}{
		{"role", func(i int) []string { return []string{"assume:" + roles[i%len(roles)].ID} }},
		{"client", func(i int) []string { return roles[i%len(roles)].Scopes }},
		{"parameter", func(i int) []string { return []string{"assume:project-admin:proj1"} }},
		{"everything", func(i int) []string { return []string{"assume:*"} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				must(b, r.Uncached, c.input(i))
			}
		})
	}
	b.Run("worst", func(b *testing.B) {
		worst, most := 0, 0
		for i, role := range roles {
			if n := must(b, r.Expand, []string{"assume:" + role.ID}).Len(); n > most {
				worst, most = i, n
			}
		}
		b.ReportAllocs()
		input := []string{"assume:" + roles[worst].ID}
		for b.Loop() {
			must(b, r.Uncached, input)
		}
		b.ReportMetric(float64(most), "scopes")
	})
}

func BenchmarkExpandCached(b *testing.B) {
	roles := benchmarkRoles(b)
	r := mustCompile(b, roles)
	b.Run("role", func(b *testing.B) {
		inputs := make([][]string, len(roles))
		for i := range roles {
			inputs[i] = []string{"assume:" + roles[i].ID}
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			must(b, r.Expand, inputs[i%len(inputs)])
		}
	})
	b.Run("client of 20 scopes", func(b *testing.B) {
		input := append(manyScopes(18), "assume:"+roles[0].ID, "assume:"+roles[1].ID)
		b.ReportAllocs()
		for b.Loop() {
			must(b, r.Expand, input)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	for _, c := range []struct {
		name  string
		roles func(b *testing.B) []Role
	}{
		{"real", benchmarkRoles},
		{"5000", func(*testing.B) []Role { return manyRoles(5000) }},
		{"50000", func(*testing.B) []Role { return manyRoles(50000) }},
		{"chain of 5000", func(*testing.B) []Role { return chain(5000) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			roles := c.roles(b)
			b.ReportAllocs()
			for b.Loop() {
				mustCompile(b, roles)
			}
		})
	}
}
