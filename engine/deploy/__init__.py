"""Export to ONNX with a parity check, and the runtime session."""
