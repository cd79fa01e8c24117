package bench

import (
	"encoding/json"
	"slices"
)

// Median makes one report of several: each number is the median of theirs (the
// lower one of two in the middle), so figures of one part may come from different
// runs. The load average is that before the first and after the last.
func Median(reports []*Report) (*Report, error) {
	trees := make([]any, len(reports))
	for i, r := range reports {
		text, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &trees[i]); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(median(trees))
	if err != nil {
		return nil, err
	}
	out := new(Report)
	if err := json.Unmarshal(text, out); err != nil {
		return nil, err
	}
	out.Runs = len(reports)
	out.LoadAverage[1] = reports[len(reports)-1].LoadAverage[1]
	return out, nil
}

// median merges trees of the same shape.
func median(trees []any) any {
	switch first := trees[0].(type) {
	case float64:
		numbers := make([]float64, len(trees))
		for i, t := range trees {
			numbers[i], _ = t.(float64)
		}
		slices.Sort(numbers)
		return numbers[(len(numbers)-1)/2]
	case map[string]any:
		out := map[string]any{}
		for key := range first {
			values := make([]any, len(trees))
			for i, t := range trees {
				values[i] = t.(map[string]any)[key]
			}
			out[key] = median(values)
		}
		return out
	}
	return trees[0]
}
