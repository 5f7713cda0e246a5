"""What each type of AWS::ApiGateway takes and gives; see ``schemas``.

Source: the resource schemas that CloudFormation publishes.
"""

from __future__ import annotations

from firelet.stacks.schemas import Schema, words

REST_API = Schema(
    optional=words(
        "ApiKeySourceType BinaryMediaTypes Body Description DisableExecuteApiEndpoint"
        " EndpointConfiguration FailOnWarnings MinimumCompressionSize Mode Name Parameters Policy"
        " Tags"
    ),
    attributes=words("RestApiId RootResourceId"),
)
RESOURCE = Schema(
    required=words("ParentId PathPart RestApiId"),
    fixed=words("ParentId PathPart RestApiId"),
    attributes=words("ResourceId"),
)
METHOD = Schema(
    required=words("HttpMethod ResourceId RestApiId"),
    optional=words(
        "ApiKeyRequired AuthorizationScopes AuthorizationType AuthorizerId Integration"
        " MethodResponses OperationName RequestModels RequestParameters RequestValidatorId"
    ),
    fixed=words("HttpMethod ResourceId RestApiId"),
)
AUTHORIZER = Schema(
    required=words("Name RestApiId Type"),
    optional=words(
        "AuthType AuthorizerCredentials AuthorizerResultTtlInSeconds AuthorizerUri IdentitySource"
        " IdentityValidationExpression"
    ),
    fixed=words("RestApiId"),
    attributes=words("AuthorizerId"),
)
DEPLOYMENT = Schema(
    required=words("RestApiId"),
    optional=words("Description StageName"),
    fixed=words("RestApiId StageName"),
    attributes=words("DeploymentId"),
)
STAGE = Schema(
    required=words("RestApiId"),
    optional=words(
        "AccessLogSetting CacheClusterEnabled CacheClusterSize DeploymentId Description"
        " DocumentationVersion MethodSettings StageName Tags TracingEnabled Variables"
    ),
    fixed=words("RestApiId StageName"),
)
API_KEY = Schema(
    optional=words("CustomerId Description Enabled GenerateDistinctId Name StageKeys Tags Value"),
    fixed=words("GenerateDistinctId Name Value"),
    attributes=words("APIKeyId"),
    named_by="Name",
)
USAGE_PLAN = Schema(
    optional=words("ApiStages Description Quota Tags Throttle UsagePlanName"),
    attributes=words("Id"),
    named_by="UsagePlanName",
)
USAGE_PLAN_KEY = Schema(
    required=words("KeyId KeyType UsagePlanId"),
    fixed=words("KeyId KeyType UsagePlanId"),
    attributes=words("Id"),
)
