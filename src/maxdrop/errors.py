"""Every error that maxdrop raises on purpose.

MaxdropError
├── ValidationError              bad argument, empty dataset, unmatched ignored scope
├── ParameterNotSupportedError   a parameter or a value of it that is not honoured
├── UnsupportedBackendError      a model of an unknown kind
├── UnsupportedModelError        a model that cannot be quantized as it is
├── MetricError                  the validation function returned something that is no metric
├── PlanError                    a plan that does not fit the model or the version
├── TraceError                   a trace that cannot be resumed
├── WorkerError                  a worker process died again and again, or raised what cannot be sent
├── TargetNotReachedError        strict=True and no candidate within max_drop but the float model
└── InternalError                a defect of maxdrop itself
"""

from __future__ import annotations


class MaxdropError(Exception):
    """Root of all errors of this package."""


class ValidationError(MaxdropError):
    """An argument breaks a rule; the message says the rule, what was got, and what to do."""


class ParameterNotSupportedError(MaxdropError):
    """A parameter, or this value of it, is known but not honoured."""


class UnsupportedBackendError(MaxdropError):
    """The model is of a kind that no backend reads."""


class UnsupportedModelError(MaxdropError):
    """The model can be read but not quantized as it is."""


class MetricError(MaxdropError):
    """The validation function returned something that is no finite metric."""


class PlanError(MaxdropError):
    """A plan does not fit the model, or is not readable by this version."""


class TraceError(MaxdropError):
    """A trace on disk belongs to another model, data or settings."""


class WorkerError(MaxdropError):
    """A worker process died again and again, or raised an exception that cannot be sent to its parent."""


class TargetNotReachedError(MaxdropError):
    """`strict=True`, and only the float model is within `max_drop`."""


class InternalError(MaxdropError):
    """A defect of maxdrop itself."""
