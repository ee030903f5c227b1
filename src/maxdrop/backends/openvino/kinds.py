"""OpenVINO op types in the package's own terms. Data only; a type that is not listed is `OpKind.OTHER`.

Not listed although they only move values: Tile, SpaceToDepth, ReverseSequence, GatherElements and GatherND. The
runtime (2026.4) carries no int8 through them, so that an op behind them falls back to float unless the quantizer
stands directly in front of it.
"""

from __future__ import annotations

from maxdrop.data.graph import OpKind

_K = OpKind

KINDS: dict[str, OpKind] = {
    "Parameter": _K.PARAMETER,
    "Result": _K.RESULT,
    "Constant": _K.CONSTANT,
    "Convolution": _K.CONVOLUTION,
    "GroupConvolution": _K.GROUP_CONVOLUTION,
    "ConvolutionBackpropData": _K.CONV_TRANSPOSE,
    "GroupConvolutionBackpropData": _K.CONV_TRANSPOSE,
    "MatMul": _K.MATMUL,
    "ScaledDotProductAttention": _K.ATTENTION,
    **dict.fromkeys(
        ("LSTMSequence", "GRUSequence", "RNNSequence", "LSTMCell", "GRUCell", "RNNCell", "AUGRUSequence"),
        _K.RECURRENT,
    ),
    "Add": _K.ADD,
    "Subtract": _K.SUBTRACT,
    "Multiply": _K.MULTIPLY,
    "Divide": _K.DIVIDE,
    **dict.fromkeys(("Relu", "PRelu", "Clamp"), _K.RELU),
    **dict.fromkeys(("Sigmoid", "HSigmoid", "HardSigmoid"), _K.SIGMOID),
    **dict.fromkeys(
        (
            "Swish",
            "HSwish",
            "Gelu",
            "Tanh",
            "Elu",
            "Selu",
            "Mish",
            "SoftPlus",
            "Erf",
            "SoftSign",
            "Exp",
        ),
        _K.ACTIVATION,
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _K.SOFTMAX),
    **dict.fromkeys(
        ("MVN", "BatchNormInference", "GroupNormalization", "NormalizeL2", "LRN", "RMSNorm"), _K.NORMALIZATION
    ),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"), _K.REDUCE
    ),
    **dict.fromkeys(("AvgPool", "AdaptiveAvgPool"), _K.AVERAGE_POOL),
    **dict.fromkeys(("MaxPool", "AdaptiveMaxPool"), _K.MAX_POOL),
    **dict.fromkeys(
        (
            "Reshape",
            "Transpose",
            "Squeeze",
            "Unsqueeze",
            "Broadcast",
            "DepthToSpace",
            "ShuffleChannels",
        ),
        _K.LAYOUT,
    ),
    "Concat": _K.CONCAT,
    **dict.fromkeys(("Split", "VariadicSplit"), _K.SPLIT),
    **dict.fromkeys(("StridedSlice", "Slice"), _K.SLICE),
    "Pad": _K.PAD,
    "Gather": _K.GATHER,
    **dict.fromkeys(("Convert", "ConvertLike"), _K.CONVERT),
    **dict.fromkeys(("ShapeOf", "Range"), _K.SHAPE),
    **dict.fromkeys(("If", "Loop", "TensorIterator"), _K.CONTROL_FLOW),
    **dict.fromkeys(("ReadValue", "Assign"), _K.STATE),
    **dict.fromkeys(("FakeQuantize", "FakeConvert"), _K.FAKE_QUANTIZE),
}
