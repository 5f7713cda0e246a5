package firelet.runtime;

import java.lang.reflect.Array;
import java.lang.reflect.InvocationTargetException;
import java.time.temporal.TemporalAccessor;
import java.util.Date;
import java.util.IdentityHashMap;
import java.util.Map;
import java.util.Optional;

/** Java values as JSON text: collections, scalars, and beans by their properties. */
final class Writer {
  private final StringBuilder out = new StringBuilder();
  /** What is being written: one that is met again inside itself would never end. */
  private final Map<Object, Boolean> open = new IdentityHashMap<>();

  /** IllegalArgumentException for what has no JSON: cycles, NaN and infinity, getters that throw. */
  static String toJson(Object value) {
    Writer writer = new Writer();
    writer.write(value);
    return writer.out.toString();
  }

  private void write(Object value) {
    if (value == null || value instanceof Boolean) {
      out.append(value);
    } else if (value instanceof Number) {
      writeNumber((Number) value);
    } else if (value instanceof CharSequence || value instanceof Character) {
      Json.quote(value.toString(), out);
    } else if (value instanceof Enum) {
      Json.quote(((Enum<?>) value).name(), out);
    } else if (value instanceof Date) {
      out.append(((Date) value).getTime());
    } else if (value instanceof Optional) {
      write(((Optional<?>) value).orElse(null));
    } else if (isText(value)) {
      Json.quote(value.toString(), out);
    } else {
      writeStructure(value);
    }
  }

  private static boolean isText(Object value) {
    return value instanceof TemporalAccessor
        || value instanceof java.util.UUID
        || value instanceof java.net.URI
        || value instanceof java.net.URL
        || value instanceof Class;
  }

  private void writeNumber(Number value) {
    double real = value.doubleValue();
    boolean isReal = value instanceof Double || value instanceof Float;
    if (isReal && (Double.isNaN(real) || Double.isInfinite(real))) {
      throw new IllegalArgumentException(value + " has no JSON");
    }
    out.append(value);
  }

  private void writeStructure(Object value) {
    if (open.put(value, true) != null) {
      throw new IllegalArgumentException(value.getClass().getName() + " contains itself");
    }
    if (value instanceof Map) {
      writeMap((Map<?, ?>) value);
    } else if (value instanceof Iterable) {
      writeItems((Iterable<?>) value);
    } else if (value instanceof byte[]) {
      Json.quote(java.util.Base64.getEncoder().encodeToString((byte[]) value), out);
    } else if (value.getClass().isArray()) {
      writeArray(value);
    } else {
      writeBean(value);
    }
    open.remove(value);
  }

  private void writeMap(Map<?, ?> map) {
    String separator = "{";
    for (Map.Entry<?, ?> entry : map.entrySet()) {
      out.append(separator);
      Json.quote(String.valueOf(entry.getKey()), out);
      out.append(':');
      write(entry.getValue());
      separator = ",";
    }
    out.append(map.isEmpty() ? "{}" : "}");
  }

  private void writeItems(Iterable<?> items) {
    out.append('[');
    String separator = "";
    for (Object item : items) {
      out.append(separator);
      write(item);
      separator = ",";
    }
    out.append(']');
  }

  private void writeArray(Object array) {
    out.append('[');
    for (int index = 0; index < Array.getLength(array); index++) {
      out.append(index == 0 ? "" : ",");
      write(Array.get(array, index));
    }
    out.append(']');
  }

  private void writeBean(Object bean) {
    out.append('{');
    String separator = "";
    for (Property property : Property.readable(bean.getClass())) {
      out.append(separator);
      Json.quote(property.name, out);
      out.append(':');
      write(valueOf(bean, property));
      separator = ",";
    }
    out.append('}');
  }

  private static Object valueOf(Object bean, Property property) {
    try {
      return property.read(bean);
    } catch (InvocationTargetException error) {
      throw new IllegalArgumentException(property.name + " cannot be read", error.getCause());
    } catch (ReflectiveOperationException error) {
      throw new IllegalArgumentException(property.name + " cannot be read", error);
    }
  }
}
