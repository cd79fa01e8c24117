package schema

// matcher returns a test for an ECMAScript pattern. Patterns that only say
// which characters may stand where, such as ^[a-z]{1,38}$ or a slugid's, are
// matched without the regular expression.
func matcher(pattern string) (func(string) bool, error) {
	re, err := CompilePattern(pattern)
	if err != nil {
		return nil, err
	}
	if steps := parseSteps(pattern); steps != nil {
		return func(s string) bool { return match(steps, s) }, nil
	}
	return re.MatchString, nil
}

// step stands for min to max ASCII characters of a set.
type step struct {
	set      [2]uint64
	min, max int // max < 0: any number
}

func (st *step) has(c byte) bool { return c < 128 && st.set[c>>6]&(1<<(c&63)) != 0 }

func match(steps []step, s string) bool {
	pos := 0
	for i := range steps {
		st := &steps[i]
		n := 0
		for pos < len(s) && (st.max < 0 || n < st.max) && st.has(s[pos]) {
			pos++
			n++
		}
		if n < st.min {
			return false
		}
	}
	return pos == len(s)
}

// parseSteps reads ^, classes each with an optional *, + or {n} or {n,m}, and
// $, perhaps all in one group. It returns nil for anything else, and where
// taking as much as possible at each step could miss a match.
func parseSteps(pattern string) []step {
	p := pattern
	if len(p) < 3 || p[0] != '^' || p[len(p)-1] != '$' {
		return nil
	}
	p = p[1 : len(p)-1]
	if len(p) > 2 && p[0] == '(' && p[len(p)-1] == ')' {
		p = p[1 : len(p)-1]
	}
	var steps []step
	for p != "" {
		st := step{min: 1, max: 1}
		if p[0] != '[' {
			return nil
		}
		end := 1
		for end < len(p) && p[end] != ']' {
			if p[end] == '\\' || end == 1 && p[end] == '^' {
				return nil
			}
			end++
		}
		if end >= len(p) || !st.class(p[1:end]) {
			return nil
		}
		if p = st.count(p[end+1:]); len(steps) > 0 && steps[len(steps)-1].min != steps[len(steps)-1].max {
			return nil
		}
		steps = append(steps, st)
	}
	return steps
}

// class reads the inside of [...].
func (st *step) class(s string) bool {
	for i := 0; i < len(s); i++ {
		from, to := s[i], s[i]
		if i+2 < len(s) && s[i+1] == '-' {
			to = s[i+2]
			i += 2
		}
		if from > to || to >= 128 {
			return false
		}
		for c := from; c <= to; c++ {
			st.set[c>>6] |= 1 << (c & 63)
		}
	}
	return s != ""
}

// count reads a quantifier and returns what follows; it leaves unknown ones
// there, to be refused as what is not a class.
func (st *step) count(s string) string {
	if s == "" {
		return s
	}
	switch s[0] {
	case '*':
		st.min, st.max = 0, -1
		return s[1:]
	case '+':
		st.min, st.max = 1, -1
		return s[1:]
	case '{':
		i, bounds := 1, []int{0}
		for ; i < len(s) && s[i] != '}'; i++ {
			switch {
			case isDigit(s[i]):
				bounds[len(bounds)-1] = bounds[len(bounds)-1]*10 + int(s[i]-'0')
			case s[i] == ',' && len(bounds) == 1 && isDigit(s[min(i+1, len(s)-1)]):
				bounds = append(bounds, 0)
			default:
				return s
			}
		}
		if i < len(s) {
			st.min, st.max = bounds[0], bounds[len(bounds)-1]
			return s[i+1:]
		}
	}
	return s
}
