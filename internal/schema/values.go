package schema

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v2"
)

// expandValues spells out the short form of common/values.schema.yml, which
// is described there. What it makes refers to constants by $const.
func expandValues(short yaml.MapSlice) (yaml.MapSlice, error) {
	var form struct {
		Title, Description string
		Chart              yaml.MapSlice
		Groups             map[string]yaml.MapSlice
		Services           yaml.MapSlice
	}
	if err := reread(short, &form); err != nil {
		return nil, err
	}
	var chart fields
	chart.add(form.Chart)
	for _, m := range form.Services {
		var service struct {
			Servers, Jobs, Uses []string
			Settings            yaml.MapSlice
		}
		if err := reread(m.Value, &service); err != nil {
			return nil, fmt.Errorf("%v: %w", m.Key, err)
		}
		var procs fields
		for _, name := range service.Servers {
			procs.add(yaml.MapSlice{{Key: name + "!", Value: "server"}})
		}
		for _, name := range service.Jobs {
			procs.add(yaml.MapSlice{{Key: name + "!", Value: "job"}})
		}
		own := fields{}
		own.add(yaml.MapSlice{
			{Key: "procs!", Value: procs.schema()},
			{Key: "autoscaling", Value: "autoscaling"},
			{Key: "debug", Value: "text"},
		})
		for _, group := range service.Uses {
			settings, ok := form.Groups[group]
			if !ok {
				return nil, fmt.Errorf("%v uses the group %s, which is not there", m.Key, group)
			}
			own.add(settings)
		}
		own.add(service.Settings)
		chart.add(yaml.MapSlice{{Key: m.Key.(string) + "!", Value: own.schema()}})
	}
	head := yaml.MapSlice{
		{Key: "$schema", Value: draft06},
		{Key: "title", Value: form.Title},
		{Key: "description", Value: form.Description},
	}
	return append(head, chart.schema()...), nil
}

// reread brings parsed YAML into the form of out, refusing unknown keys.
func reread(v, out any) error {
	text, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	return yaml.UnmarshalStrict(text, out)
}

// fields collects the properties of an object.
type fields struct {
	properties yaml.MapSlice
	required   []any
}

// add takes names, with ! if required, to schemas or names of constants.
func (f *fields) add(settings yaml.MapSlice) {
	for _, m := range settings {
		name, required := strings.CutSuffix(m.Key.(string), "!")
		if required {
			f.required = append(f.required, name)
		}
		value := m.Value
		if constant, ok := value.(string); ok {
			value = yaml.MapSlice{{Key: "$const", Value: constant}}
		}
		f.properties = append(f.properties, yaml.MapItem{Key: name, Value: value})
	}
}

func (f *fields) schema() yaml.MapSlice {
	return yaml.MapSlice{
		{Key: "type", Value: "object"},
		{Key: "additionalProperties", Value: false},
		{Key: "properties", Value: f.properties},
		{Key: "required", Value: f.required},
	}
}
