package firelet.runtime;

import com.amazonaws.services.lambda.runtime.Client;
import com.amazonaws.services.lambda.runtime.ClientContext;
import com.amazonaws.services.lambda.runtime.CognitoIdentity;
import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.LambdaLogger;
import com.amazonaws.services.lambda.runtime.LambdaRuntime;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/** The context of one invocation, from the headers of the event and the environment. */
final class InvocationContext implements Context {
  private final Map<String, String> headers;
  private final Map<String, String> environment;

  InvocationContext(Map<String, String> headers, Map<String, String> environment) {
    this.headers = headers;
    this.environment = environment;
  }

  @Override
  public String getAwsRequestId() {
    return headers.get("lambda-runtime-aws-request-id");
  }

  @Override
  public String getLogGroupName() {
    return environment.get("AWS_LAMBDA_LOG_GROUP_NAME");
  }

  @Override
  public String getLogStreamName() {
    return environment.get("AWS_LAMBDA_LOG_STREAM_NAME");
  }

  @Override
  public String getFunctionName() {
    return environment.get("AWS_LAMBDA_FUNCTION_NAME");
  }

  @Override
  public String getFunctionVersion() {
    return environment.get("AWS_LAMBDA_FUNCTION_VERSION");
  }

  @Override
  public String getInvokedFunctionArn() {
    return headers.get("lambda-runtime-invoked-function-arn");
  }

  @Override
  public String getTenantId() {
    return headers.get("lambda-runtime-aws-tenant-id");
  }

  @Override
  public String getXrayTraceId() {
    return headers.get("lambda-runtime-trace-id");
  }

  @Override
  public int getRemainingTimeInMillis() {
    long deadline = Long.parseLong(headers.get("lambda-runtime-deadline-ms"));
    return (int) Math.max(0, deadline - System.currentTimeMillis());
  }

  @Override
  public int getMemoryLimitInMB() {
    return Integer.parseInt(environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"));
  }

  @Override
  public LambdaLogger getLogger() {
    return LambdaRuntime.getLogger();
  }

  @Override
  public CognitoIdentity getIdentity() {
    Map<String, Object> given = header("lambda-runtime-cognito-identity");
    return new CognitoIdentity() {
      @Override
      public String getIdentityId() {
        return text(given, "cognitoIdentityId");
      }

      @Override
      public String getIdentityPoolId() {
        return text(given, "cognitoIdentityPoolId");
      }
    };
  }

  @Override
  public ClientContext getClientContext() {
    Map<String, Object> given = header("lambda-runtime-client-context");
    return given.isEmpty() ? null : new GivenContext(given);
  }

  private Map<String, Object> header(String name) {
    String value = headers.get(name);
    return value == null ? Collections.emptyMap() : members(Json.parse(value));
  }

  private static Map<String, Object> members(Object value) {
    Map<String, Object> members = new LinkedHashMap<>();
    if (value instanceof Map) {
      ((Map<?, ?>) value).forEach((name, member) -> members.put(name.toString(), member));
    }
    return members;
  }

  private static String text(Map<String, Object> members, String name) {
    Object value = members.get(name);
    return value == null ? null : value.toString();
  }

  private static final class GivenContext implements ClientContext, Client {
    private final Map<String, Object> given;
    private final Map<String, Object> client;

    GivenContext(Map<String, Object> given) {
      this.given = given;
      this.client = members(given.get("client"));
    }

    @Override
    public Client getClient() {
      return this;
    }

    @Override
    public Map<String, String> getCustom() {
      return texts("custom");
    }

    @Override
    public Map<String, String> getEnvironment() {
      return texts("env");
    }

    @Override
    public String getInstallationId() {
      return text(client, "installation_id");
    }

    @Override
    public String getAppTitle() {
      return text(client, "app_title");
    }

    @Override
    public String getAppVersionName() {
      return text(client, "app_version_name");
    }

    @Override
    public String getAppVersionCode() {
      return text(client, "app_version_code");
    }

    @Override
    public String getAppPackageName() {
      return text(client, "app_package_name");
    }

    private Map<String, String> texts(String name) {
      Map<String, String> texts = new LinkedHashMap<>();
      members(given.get(name)).forEach((key, value) -> texts.put(key, String.valueOf(value)));
      return texts;
    }
  }
}
