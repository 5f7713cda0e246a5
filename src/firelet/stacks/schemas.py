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


def words(text: str) -> frozenset[str]:
    """The names in a text."""
    return frozenset(text.split())


FUNCTION = Schema(
    required=words("Code Role"),
    optional=words(
        "Architectures CodeSigningConfigArn DeadLetterConfig Description DurableConfig Environment"
        " EphemeralStorage FileSystemConfigs FunctionName Handler ImageConfig KmsKeyArn Layers"
        " LoggingConfig MemorySize PackageType RecursiveLoop ReservedConcurrentExecutions Runtime"
        " RuntimeManagementConfig SnapStart Tags TenancyConfig Timeout TracingConfig VpcConfig"
    ),
    fixed=words("FunctionName PackageType TenancyConfig"),
    given=words("DurableConfig"),
    attributes=words("Arn SnapStartResponse.ApplyOn SnapStartResponse.OptimizationStatus"),
    named_by="FunctionName",
)
VERSION = Schema(
    required=words("FunctionName"),
    optional=words("CodeSha256 Description ProvisionedConcurrencyConfig RuntimePolicy"),
    fixed=words("FunctionName CodeSha256 Description ProvisionedConcurrencyConfig RuntimePolicy"),
    attributes=words("Version FunctionArn"),
)
ALIAS = Schema(
    required=words("FunctionName FunctionVersion Name"),
    optional=words("Description ProvisionedConcurrencyConfig RoutingConfig"),
    fixed=words("FunctionName Name"),
    attributes=words("AliasArn"),
)
LAYER_VERSION = Schema(
    required=words("Content"),
    optional=words("CompatibleArchitectures CompatibleRuntimes Description LayerName LicenseInfo"),
    fixed=words(
        "CompatibleArchitectures CompatibleRuntimes Content Description LayerName LicenseInfo"
    ),
    attributes=words("LayerVersionArn"),
)
LAYER_VERSION_PERMISSION = Schema(
    required=words("Action LayerVersionArn Principal"),
    optional=words("OrganizationId"),
    fixed=words("Action LayerVersionArn OrganizationId Principal"),
    attributes=words("Id"),
)
CODE_SIGNING_CONFIG = Schema(
    required=words("AllowedPublishers"),
    optional=words("CodeSigningPolicies Description Tags"),
    attributes=words("CodeSigningConfigArn CodeSigningConfigId"),
)
PERMISSION = Schema(
    required=words("Action FunctionName Principal"),
    optional=words(
        "EventSourceToken FunctionUrlAuthType InvokedViaFunctionUrl PrincipalOrgID SourceAccount"
        " SourceArn"
    ),
    fixed=words(
        "Action FunctionName Principal EventSourceToken FunctionUrlAuthType InvokedViaFunctionUrl"
        " PrincipalOrgID SourceAccount SourceArn"
    ),
    attributes=words("Id"),
)
URL = Schema(
    required=words("AuthType TargetFunctionArn"),
    optional=words("Cors InvokeMode Qualifier"),
    fixed=words("TargetFunctionArn Qualifier"),
    attributes=words("FunctionArn FunctionUrl"),
)
EVENT_INVOKE_CONFIG = Schema(
    required=words("FunctionName Qualifier"),
    optional=words("DestinationConfig MaximumEventAgeInSeconds MaximumRetryAttempts"),
    fixed=words("FunctionName Qualifier"),
)
EVENT_SOURCE_MAPPING = Schema(
    required=words("FunctionName"),
    optional=words(
        "AmazonManagedKafkaEventSourceConfig BatchSize BisectBatchOnFunctionError DestinationConfig"
        " DocumentDBEventSourceConfig Enabled EventSourceArn FilterCriteria FunctionResponseTypes"
        " KmsKeyArn LoggingConfig MaximumBatchingWindowInSeconds MaximumRecordAgeInSeconds"
        " MaximumRetryAttempts MetricsConfig ParallelizationFactor ProvisionedPollerConfig Queues"
        " ScalingConfig SelfManagedEventSource SelfManagedKafkaEventSourceConfig"
        " SourceAccessConfigurations StartingPosition StartingPositionTimestamp Tags Topics"
        " TumblingWindowInSeconds"
    ),
    fixed=words(
        "EventSourceArn StartingPosition StartingPositionTimestamp SelfManagedEventSource"
        " Topics Queues"
    ),
    attributes=words("Id EventSourceMappingArn"),
)
ROLE = Schema(
    required=words("AssumeRolePolicyDocument"),
    optional=words(
        "Description ManagedPolicyArns MaxSessionDuration Path PermissionsBoundary Policies"
        " RoleName Tags"
    ),
    fixed=words("Path RoleName"),
    attributes=words("Arn RoleId"),
    named_by="RoleName",
)
POLICY = Schema(
    required=words("PolicyDocument PolicyName"),
    optional=words("Roles"),
    attributes=words("Id"),
)
ROLE_POLICY = Schema(
    required=words("PolicyDocument PolicyName RoleName"),
    fixed=words("PolicyName RoleName"),
)
MANAGED_POLICY = Schema(
    required=words("PolicyDocument"),
    optional=words("Description ManagedPolicyName Path Roles"),
    fixed=words("Description ManagedPolicyName Path"),
    attributes=words("PolicyArn PolicyId"),
    named_by="ManagedPolicyName",
)
LOG_GROUP = Schema(
    optional=words("DeletionProtectionEnabled LogGroupClass LogGroupName RetentionInDays Tags"),
    fixed=words("LogGroupClass LogGroupName"),
    attributes=words("Arn"),
    named_by="LogGroupName",
)
