"""What each supported type takes and gives: properties, attributes, and what a change of a property
does. Data; the plan is made and checked with it.

A property of AWS's that is not here is not supported, and is named before anything is changed.
``fixed`` are those that CloudFormation documents with "Update requires: Replacement". Topics and
Queues of an event source mapping are fixed here though they are not there: no operation of
Lambda's API changes them.
Source: the resource schemas of AWS::Lambda, AWS::IAM and AWS::Logs that CloudFormation publishes
(``createOnlyProperties``, ``required``, ``readOnlyProperties``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """One type. ``named_by`` is the property with which a template names the thing itself;
    ``given`` are properties that take a new resource when they are added or removed."""

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    named_by: str | None = None

    @property
    def properties(self) -> frozenset[str]:
        return self.required | self.optional


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION = Schema(
    required=_words("Code Role"),
    optional=_words(
        "Architectures CodeSigningConfigArn DeadLetterConfig Description DurableConfig Environment"
        " EphemeralStorage FileSystemConfigs FunctionName Handler ImageConfig KmsKeyArn Layers"
        " LoggingConfig MemorySize PackageType RecursiveLoop ReservedConcurrentExecutions Runtime"
        " RuntimeManagementConfig SnapStart Tags TenancyConfig Timeout TracingConfig VpcConfig"
    ),
    fixed=_words("FunctionName PackageType TenancyConfig"),
    given=_words("DurableConfig"),
    attributes=_words("Arn SnapStartResponse.ApplyOn SnapStartResponse.OptimizationStatus"),
    named_by="FunctionName",
)
VERSION = Schema(
    required=_words("FunctionName"),
    optional=_words("CodeSha256 Description ProvisionedConcurrencyConfig RuntimePolicy"),
    fixed=_words("FunctionName CodeSha256 Description ProvisionedConcurrencyConfig RuntimePolicy"),
    attributes=_words("Version FunctionArn"),
)
ALIAS = Schema(
    required=_words("FunctionName FunctionVersion Name"),
    optional=_words("Description ProvisionedConcurrencyConfig RoutingConfig"),
    fixed=_words("FunctionName Name"),
    attributes=_words("AliasArn"),
)
LAYER_VERSION = Schema(
    required=_words("Content"),
    optional=_words("CompatibleArchitectures CompatibleRuntimes Description LayerName LicenseInfo"),
    fixed=_words(
        "CompatibleArchitectures CompatibleRuntimes Content Description LayerName LicenseInfo"
    ),
    attributes=_words("LayerVersionArn"),
)
LAYER_VERSION_PERMISSION = Schema(
    required=_words("Action LayerVersionArn Principal"),
    optional=_words("OrganizationId"),
    fixed=_words("Action LayerVersionArn OrganizationId Principal"),
    attributes=_words("Id"),
)
CODE_SIGNING_CONFIG = Schema(
    required=_words("AllowedPublishers"),
    optional=_words("CodeSigningPolicies Description Tags"),
    attributes=_words("CodeSigningConfigArn CodeSigningConfigId"),
)
PERMISSION = Schema(
    required=_words("Action FunctionName Principal"),
    optional=_words(
        "EventSourceToken FunctionUrlAuthType InvokedViaFunctionUrl PrincipalOrgID SourceAccount"
        " SourceArn"
    ),
    fixed=_words(
        "Action FunctionName Principal EventSourceToken FunctionUrlAuthType InvokedViaFunctionUrl"
        " PrincipalOrgID SourceAccount SourceArn"
    ),
    attributes=_words("Id"),
)
URL = Schema(
    required=_words("AuthType TargetFunctionArn"),
    optional=_words("Cors InvokeMode Qualifier"),
    fixed=_words("TargetFunctionArn Qualifier"),
    attributes=_words("FunctionArn FunctionUrl"),
)
EVENT_INVOKE_CONFIG = Schema(
    required=_words("FunctionName Qualifier"),
    optional=_words("DestinationConfig MaximumEventAgeInSeconds MaximumRetryAttempts"),
    fixed=_words("FunctionName Qualifier"),
)
EVENT_SOURCE_MAPPING = Schema(
    required=_words("FunctionName"),
    optional=_words(
        "AmazonManagedKafkaEventSourceConfig BatchSize BisectBatchOnFunctionError DestinationConfig"
        " DocumentDBEventSourceConfig Enabled EventSourceArn FilterCriteria FunctionResponseTypes"
        " KmsKeyArn LoggingConfig MaximumBatchingWindowInSeconds MaximumRecordAgeInSeconds"
        " MaximumRetryAttempts MetricsConfig ParallelizationFactor ProvisionedPollerConfig Queues"
        " ScalingConfig SelfManagedEventSource SelfManagedKafkaEventSourceConfig"
        " SourceAccessConfigurations StartingPosition StartingPositionTimestamp Tags Topics"
        " TumblingWindowInSeconds"
    ),
    fixed=_words(
        "EventSourceArn StartingPosition StartingPositionTimestamp SelfManagedEventSource"
        " Topics Queues"
    ),
    attributes=_words("Id EventSourceMappingArn"),
)
ROLE = Schema(
    required=_words("AssumeRolePolicyDocument"),
    optional=_words(
        "Description ManagedPolicyArns MaxSessionDuration Path PermissionsBoundary Policies"
        " RoleName Tags"
    ),
    fixed=_words("Path RoleName"),
    attributes=_words("Arn RoleId"),
    named_by="RoleName",
)
POLICY = Schema(
    required=_words("PolicyDocument PolicyName"),
    optional=_words("Roles"),
    attributes=_words("Id"),
)
ROLE_POLICY = Schema(
    required=_words("PolicyDocument PolicyName RoleName"),
    fixed=_words("PolicyName RoleName"),
)
MANAGED_POLICY = Schema(
    required=_words("PolicyDocument"),
    optional=_words("Description ManagedPolicyName Path Roles"),
    fixed=_words("Description ManagedPolicyName Path"),
    attributes=_words("PolicyArn PolicyId"),
    named_by="ManagedPolicyName",
)
LOG_GROUP = Schema(
    optional=_words("DeletionProtectionEnabled LogGroupClass LogGroupName RetentionInDays Tags"),
    fixed=_words("LogGroupClass LogGroupName"),
    attributes=_words("Arn"),
    named_by="LogGroupName",
)
