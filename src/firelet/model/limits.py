"""Limits and defaults, each with its unit and source. No number lives inside a policy.

Sources: "quotas" is docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html; "recorded"
is an answer of the real service; "firelet" is a choice of this project.
"""

from __future__ import annotations

import math

KIB = 1024
MIB = 1024 * KIB

# Function configuration (quotas; the service model allows more for managed instances).
MEMORY_MAX_MIB = 10_240
MEMORY_DEFAULT_MIB = 128
TIMEOUT_MAX_S = 900
TIMEOUT_DEFAULT_S = 3
EPHEMERAL_MIN_MIB = 512
EPHEMERAL_MAX_MIB = 10_240
ENVIRONMENT_MAX_BYTES = 4 * KIB
LAYERS_MAX = 5
TAGS_MAX = 50
ROUTING_VERSIONS_MAX = 1
FUNCTION_NAME_MAX = 64
POLICY_MAX_BYTES = 20 * KIB

# Code (quotas; the request size is recorded; the storage is that of the guide's page on
# self-managed S3 code storage, which has grown from 75 GB in 2026).
CODE_ZIPPED_MAX_BYTES = 52_428_800
CODE_UNZIPPED_MAX_BYTES = 262_144_000
CODE_STORAGE_MAX_BYTES = 300 * 1024 * MIB
CODE_LINK_LIFETIME_S = 600
CONTROL_REQUEST_MAX_BYTES = 70_167_211

# Zip archives (firelet: far above real packages, far below what would hurt the host).
ARCHIVE_ENTRIES_MAX = 100_000
ARCHIVE_PATH_MAX_BYTES = 2_048
ARCHIVE_NAME_MAX_BYTES = 255  # the kernel's NAME_MAX
ARCHIVE_DEPTH_MAX = 128
ARCHIVE_LINK_MAX_BYTES = 1_024

# Container images (quotas: the size unpacked; the manifest is the distribution specification's;
# the other limits are firelet's: Docker, too, stacks no more than 127 layers).
IMAGE_UNPACKED_MAX_BYTES = 10 * 1024 * MIB
IMAGE_MANIFEST_MAX_BYTES = 4 * MIB
IMAGE_SETTINGS_MAX_BYTES = 16 * KIB  # ImageConfig of a function (quotas)
IMAGE_TEXTS_MAX_BYTES = 64 * KIB  # entry point, command and variables of an image, as JSON
IMAGE_LAYERS_MAX = 127
IMAGE_LAYER_ENTRIES_MAX = 1_000_000
IMAGE_TIMEOUT_S = 30.0  # for each answer of a registry
IMAGE_REDIRECTS_MAX = 5

# Changes to functions (firelet).
UPDATE_WAIT_S = 2.0  # for an update in progress, before the next one is refused
INIT_WAIT_S = 1.0  # of an activation, for the environment that it makes ahead
# Of an answer, for the activation, so that a waiter's first poll finds it done: longer than that.
ANSWER_WAIT_S = 2.0
REFERENCE_LOOK_EVERY_S = 3_600.0  # for the objects of packages by reference
SOURCE_TIMEOUT_S = 30.0  # for each read from the endpoint that a zip is fetched from

# Invocation (quotas; the response limit is recorded and is not the request limit).
PAYLOAD_SYNC_MAX_BYTES = 6_291_456
PAYLOAD_ASYNC_MAX_BYTES = 1_048_576
PAYLOAD_INVOKE_ASYNC_MAX_BYTES = 262_144  # of the deprecated operation InvokeAsync
RECURSION_MAX = 16  # invocations of one function in one chain of requests
TRACE_SAMPLED_SHARE = 0.05  # of the requests beyond the first in a second, with active tracing
RESPONSE_MAX_BYTES = 6_291_556
GATEWAY_REQUEST_MAX_BYTES = 10_485_760  # HTTP, REST and WebSocket APIs: their quotas
BALANCER_REQUEST_MAX_BYTES = 1_048_576  # of load balancers with functions as targets: quotas
STREAM_MAX_BYTES = 200 * MIB  # of a streamed response
STREAM_FREE_BYTES = 6 * MIB  # of it, always at full speed; then 2 MiB/s on AWS
CLIENT_CONTEXT_MAX_BYTES = 3_583
LOG_RESULT_BYTES = 4_096
INIT_TIMEOUT_S = 10.0
RESTORE_TIMEOUT_S = 10.0  # of a clone, its hooks included; SnapStart page of the guide
INIT_PROVISIONED_MIN_S = 130.0  # or the function's timeout, if that is longer

# WebSocket APIs (quotas of API Gateway).
WEBSOCKET_MESSAGE_MAX_BYTES = 128 * KIB
WEBSOCKET_FRAME_MAX_BYTES = 32 * KIB
WEBSOCKET_IDLE_S = 600.0
WEBSOCKET_LIFETIME_S = 7_200.0

# Concurrency (quotas).
ACCOUNT_CONCURRENCY = 1_000
UNRESERVED_MIN = 100
REQUESTS_PER_S_AND_CONCURRENCY = 10  # of an account's, and of a reservation
REQUESTS_BURST_S = 1.0  # AWS counts by the second
SCALING_ENVIRONMENTS = 1_000  # of one function, in each
SCALING_PERIOD_S = 10.0
TENANT_ENVIRONMENTS_PER_1000_CONCURRENCY = 2_500  # tenant isolation page of the guide

# Sandboxes that end by themselves (firelet).
SANDBOXES_TRIED = 3  # for one start, and for one event that none of them has taken

# Memory of the host (firelet). Functions use a small part of the memory size that limits them: an
# idle Python environment holds about 5 of its 128 MiB.
MEMORY_OVERCOMMIT = 16.0
ROOM_WAIT_S = 10.0  # for memory, before an invocation is refused
AHEAD_PAUSE_S = 10.0  # after a start ahead of demand that failed
AHEAD_LOOK_AGAIN_S = 1.0  # when one was put off
MEMORY_LOOK_EVERY_S = 1.0

# Provisioned concurrency (firelet). A version whose INIT fails is tried again ever more seldom.
PROVISIONED_STARTS_AT_ONCE = 4  # of one version
PROVISIONED_RETRY_MIN_S = 10.0
PROVISIONED_RETRY_MAX_S = 300.0

# Event source mappings (quotas, and the service model's documentation of each option).
FILTERS_MAX = 5
FIFO_BATCH_MAX = 10
UNWINDOWED_BATCH_MAX = 10  # of SQS: more needs a batching window
MAX_RECORD_AGE_MIN_S = 60
POLLERS_DEFAULT_MAX = 200
SQS_POLLERS_MIN = 2
SQS_POLLERS_MAX = 10_000
KAFKA_POLLERS_MIN = 1
KAFKA_POLLERS_MAX = 2_000

# Scaling of provisioned concurrency by a metric.
# Source: Application Auto Scaling guide, where the alarm for less sees 15 minutes below 90 %.
SCALE_IN_BELOW = 0.9  # of the target
SCALE_IN_AFTER_S = 900.0
SCALE_OUT_AFTER_S = 3.0  # AWS: three minutes; there is no reason to be as slow (firelet)
SCALING_ACTIVITIES_KEPT = 100  # of one target (firelet)

# Worker processes (firelet).
WORKER_REPORT_S = 1.0  # a worker says that it is alive
WORKER_SILENT_S = 15.0  # then it is taken to hang, and is ended
WORKER_STEADY_S = 10.0  # a worker that ends earlier is started again ever later
WORKER_PAUSE_S = 0.5
WORKER_PAUSE_MAX_S = 30.0
WORKER_WAIT_S = 10.0  # for a worker, when there is none
WORKER_START_ATTEMPTS = 3  # of an environment whose worker is lost
WORKER_END_S = 10.0  # for a worker to end its environments and itself

# Sandbox (quotas, except where said).
MEMORY_PER_VCPU_MIB = 1_769
CPU_PERIOD_US = 20_000  # short, so that a small function waits 20 ms and not 100 (firelet)
CPU_QUOTA_MIN_US = 1_000  # the kernel's own minimum
PIDS_MAX = 1_024
OPEN_FILES_MAX = 1_024
RUNTIME_API_PORT = 9001
IDLE_STOP_AFTER_S = math.inf  # the capacity policy stops them long before (firelet)
ENVIRONMENT_LIFETIME_S = math.inf  # AWS: some hours, not said how many (firelet)
FREEZE_AFTER_S = 0.25  # a busy function never pays for a freeze (firelet)

# List pages (service model documentation).
FUNCTIONS_PER_PAGE = 50
VERSIONS_PER_PAGE = 50
ALIASES_PER_PAGE = 50
PROVISIONED_CONFIGS_PER_PAGE = 50
MAPPINGS_PER_PAGE = 100
URL_CONFIGS_PER_PAGE = 50
EVENT_INVOKE_CONFIGS_PER_PAGE = 50
CODE_SIGNING_CONFIGS_PER_PAGE = 50
FUNCTION_ARNS_PER_PAGE = 50
LAYERS_PER_PAGE = 50

# Extensions (quotas and the guide's page on the life cycle, except where said).
EXTENSIONS_MAX = 10
SHUTDOWN_INTERNAL_S = 0.5  # with internal extensions only
SHUTDOWN_EXTERNAL_S = 2.0
SHUTDOWN_RUNTIME_SHARE = 0.3  # of these two seconds, before extensions are told (emulator)
EXTENSION_EXIT_GRACE_S = 0.5  # for one that has reported an error to end by itself (firelet)

# Telemetry of one environment (firelet, where the API leaves it open).
TELEMETRY_BACKLOG_ITEMS = 1_000  # before the first subscription
TELEMETRY_BACKLOG_BYTES = MIB
TELEMETRY_PENDING_BATCHES = 4  # of a subscriber that falls behind, in times of its maxBytes
TELEMETRY_DELIVERY_S = 2.0  # for one batch, the subscriber's answer included
TELEMETRY_RETRY_S = 0.25  # after a delivery that failed
TELEMETRY_ATTEMPTS = 3  # of one batch
TELEMETRY_FREEZE_WAIT_S = 2.0  # for what is pending, before an idle environment is frozen
TELEMETRY_ANSWER_BYTES = 64 * KIB  # of a subscriber's HTTP answer
