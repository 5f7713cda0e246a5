# frozen_string_literal: true

# firelet's Ruby runtime client: loads the function, then serves one event after the other.
# Standard library only. The words of errors are those of AWS's Ruby runtime.

require 'json'
require 'socket'
require 'stringio'

module FireletRuntime
  PREFIX = '/2018-06-01/runtime/'
  # Of a handler that is not FILE.METHOD or FILE.CLASS.METHOD.
  MALFORMED = 'Invalid handler %s, must be of form FILENAME.METHOD or FILENAME.CLASS.METHOD ' \
              'where FILENAME corresponds with an existing Ruby source file FILENAME.rb, CLASS ' \
              'is an optional module/class namespace and METHOD is a callable method. If using ' \
              'CLASS, METHOD must be a class-level method.'

  # The Runtime API over one kept-alive connection. An outcome and the question for the next event
  # leave in one write.
  class Api
    Answer = Struct.new(:status, :headers, :body)

    def initialize(address)
      @address = address
      host, _, port = address.rpartition(':')
      @socket = TCPSocket.new(host, Integer(port))
      @socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    end

    def next_event
      @socket.write(ask)
      expect_event(read)
    end

    def report_and_next(event, outcome)
      request = outcome_request(event, outcome.kind, outcome.body, outcome.content_type,
                                outcome.error_type)
      @socket.write(request, ask)
      note_refusal(read)
      expect_event(read)
    end

    def report_last(event, body, error_type)
      @socket.write(outcome_request(event, 'error', body, 'application/json', error_type))
      note_refusal(read)
    end

    def report_init_error(body, error_type)
      @socket.write(post('init/error', body, 'application/json', error_header(error_type)))
      note_refusal(read)
    end

    private

    def ask
      "GET #{PREFIX}invocation/next HTTP/1.1\r\nHost: #{@address}\r\n\r\n"
    end

    def outcome_request(event, outcome, body, content_type, error_type)
      headers = error_header(error_type)
      attempt = event.headers['lambda-runtime-invocation-id']
      headers += "Lambda-Runtime-Invocation-Id: #{attempt}\r\n" if attempt
      id = event.headers['lambda-runtime-aws-request-id']
      post("invocation/#{id}/#{outcome}", body, content_type, headers)
    end

    def post(target, body, content_type, headers)
      head = "POST #{PREFIX}#{target} HTTP/1.1\r\nHost: #{@address}\r\n" \
             "Content-Type: #{content_type}\r\n#{headers}Content-Length: #{body.bytesize}\r\n\r\n"
      head.b + body.b
    end

    # A class may be named anything; a header may not.
    def error_header(type)
      type && type.match?(/\A[\x20-\x7e]+\z/) ? "Lambda-Runtime-Function-Error-Type: #{type}\r\n" : ''
    end

    # A refused outcome (too large, too late) is the platform's to report; the runtime goes on.
    def note_refusal(answer)
      return if answer.status == 202

      warn "The Runtime API refused an answer: #{answer.status} #{answer.body}"
    end

    def expect_event(answer)
      return answer if answer.status == 200 && answer.headers['lambda-runtime-aws-request-id']

      raise IOError, "Failed to get next invocation, error #{answer.status}"
    end

    def read
      status = line[%r{\AHTTP/1\.[01] (\d{3})}, 1] or raise IOError, 'The Runtime API answered no HTTP'
      headers = {}
      until (header = line).empty?
        name, _, value = header.partition(':')
        headers[name.downcase] = value.strip
      end
      length = Integer(headers.fetch('content-length'))
      body = length.zero? ? '' : @socket.read(length)
      raise IOError, 'The Runtime API closed the connection' if body.nil? || body.bytesize < length

      Answer.new(Integer(status), headers, body)
    end

    def line
      found = @socket.gets or raise IOError, 'The Runtime API closed the connection'
      found.chomp
    end
  end

  # What a handler may know of its function and of the invocation at hand.
  class Context
    attr_reader :aws_request_id, :invoked_function_arn, :deadline_ms, :log_group_name,
                :log_stream_name, :function_name, :memory_limit_in_mb, :function_version,
                :identity, :client_context, :tenant_id, :clock_diff

    def initialize(headers, environment)
      @clock_diff = 0
      @deadline_ms = Integer(headers['lambda-runtime-deadline-ms'])
      @aws_request_id = headers['lambda-runtime-aws-request-id']
      @invoked_function_arn = headers['lambda-runtime-invoked-function-arn']
      @tenant_id = headers['lambda-runtime-aws-tenant-id']
      @identity = parse(headers['lambda-runtime-cognito-identity'])
      @client_context = parse(headers['lambda-runtime-client-context'])
      @log_group_name = environment['AWS_LAMBDA_LOG_GROUP_NAME']
      @log_stream_name = environment['AWS_LAMBDA_LOG_STREAM_NAME']
      @function_name = environment['AWS_LAMBDA_FUNCTION_NAME']
      @memory_limit_in_mb = environment['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']
      @function_version = environment['AWS_LAMBDA_FUNCTION_VERSION']
    end

    def get_remaining_time_in_millis
      [@deadline_ms - Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond), 0].max
    end

    private

    def parse(text)
      text && JSON.parse(text)
    end
  end

  # From _HANDLER, FILE.METHOD or FILE.CLASS.METHOD, to something that can be called.
  class Handler
    def initialize(name)
      parts = name.split('.')
      raise ArgumentError, format(MALFORMED, name) unless [2, 3].include?(parts.size)

      @file = parts.first
      @owner = parts[1] if parts.size == 3
      @method = parts.last.to_sym
    end

    def load
      require @file
      @target = @owner ? Object.const_get(@owner) : TOPLEVEL_BINDING.receiver
      return if @target.respond_to?(@method, true)

      raise NameError, "undefined method `#{@method}' for #{@owner || 'main:Object'}"
    end

    def call(event, context)
      @target.__send__(@method, event: event, context: context)
    end
  end

  module_function

  # What was raised, as AWS tells it; kind is Init or Function.
  def describe(error, kind)
    type = "#{kind}<#{error.class.name}>"
    trace = (error.backtrace || []).reject { |frame| frame.start_with?(__FILE__) }
    message = error.message.dup.force_encoding(Encoding::UTF_8).scrub
    body = { errorMessage: message, errorType: type, stackTrace: trace }
    [JSON.generate(body), type, body]
  end

  def load(api, name)
    handler = Handler.new(name)
    handler.load
    handler
  rescue Exception => e # rubocop:disable Lint/RescueException - syntax and load errors are none of StandardError
    body, type, members = describe(e, 'Init')
    warn "Init error when loading handler #{name}\n#{JSON.generate(members)}"
    api.report_init_error(body, type)
    exit!(1)
  end

  def serialize(result)
    if result.is_a?(StringIO) || result.is_a?(IO)
      [result.read, 'application/unknown']
    else
      [JSON.generate(result), 'application/json']
    end
  end

  # How one invocation ended. is_last: this process cannot be trusted with another one.
  Outcome = Struct.new(:kind, :body, :content_type, :error_type, :is_last)

  def serve(api, handler)
    event = api.next_event
    loop do
      ENV['_X_AMZN_TRACE_ID'] = event.headers['lambda-runtime-trace-id']
      outcome = invoke(handler, event)
      $stdout.flush
      if outcome.is_last
        api.report_last(event, outcome.body, outcome.error_type)
        exit!(1)
      end
      event = api.report_and_next(event, outcome)
    end
  end

  def invoke(handler, event)
    result = handler.call(JSON.parse(event.body), Context.new(event.headers, ENV))
    body, content_type = serialize(result)
    Outcome.new('response', body, content_type)
  rescue Exception => e # rubocop:disable Lint/RescueException - whatever the function raises is its own
    body, type, members = describe(e, 'Function')
    warn "Error raised from handler method\n#{JSON.generate(members)}"
    is_last = [NoMemoryError, SystemExit, SignalException].any? { |kind| e.is_a?(kind) }
    Outcome.new('error', body, 'application/json', type, is_last)
  end

  def run
    $stdout.sync = true
    $stderr.sync = true
    api = Api.new(ENV.fetch('AWS_LAMBDA_RUNTIME_API'))
    serve(api, load(api, ENV.fetch('_HANDLER')))
  rescue IOError, SystemCallError => e
    warn e.message
    exit!(2)
  end
end

FireletRuntime.run
