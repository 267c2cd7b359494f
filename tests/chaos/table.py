"""All faults, in the order of the page, and those that nothing here can bring about."""

from tests.chaos.broker_faults import BROKER_FAULTS
from tests.chaos.camera_faults import CAMERA_FAULTS
from tests.chaos.group_faults import GROUP_FAULTS
from tests.chaos.model_faults import MODEL_FAULTS
from tests.chaos.worker_faults import WORKER_FAULTS

FAULTS = (*CAMERA_FAULTS, *BROKER_FAULTS, *WORKER_FAULTS, *GROUP_FAULTS, *MODEL_FAULTS)

NOT_RUN = {
    "topics that are compacted": "no broker that can be had here compacts; wants a real Kafka by "
    "KAFKA_BOOTSTRAP",
    "exactly once while workers are rebalanced": "the broker here that hides aborted transactions "
    "never misses a dead member; wants a real Kafka by KAFKA_BOOTSTRAP",
    "packets lost and late in the kernel": "queueing disciplines are not there; a proxy drops and "
    "delays instead",
    "power cut": "needs a machine; kill -9 leaves what the kernel holds",
}
