"""Reference to fx graphs: run once per mode on tensors without data, every torch call written down under one name per operator."""
