"""A network as one file that runs without packify: ONNX, torch.export's pt2, or a package of AOTInductor."""
