package firelet.runtime;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What {@link Json} parsed as the type that a handler asks for. */
final class Binding {
  private Binding() {}

  /** IllegalArgumentException when the value has no such form. Unknown members are left out. */
  static Object bind(Object value, Type type) {
    if (type instanceof Class) {
      return toClass(value, (Class<?>) type);
    }
    if (type instanceof ParameterizedType) {
      return toParameterized(value, (ParameterizedType) type);
    }
    if (type instanceof GenericArrayType) {
      return toArray(value, ((GenericArrayType) type).getGenericComponentType());
    }
    if (type instanceof WildcardType) {
      return bind(value, ((WildcardType) type).getUpperBounds()[0]);
    }
    if (type instanceof TypeVariable) {
      return bind(value, ((TypeVariable<?>) type).getBounds()[0]);
    }
    throw new IllegalArgumentException("no value can be a " + type);
  }

  private static Object toParameterized(Object value, ParameterizedType type) {
    Class<?> raw = (Class<?>) type.getRawType();
    Type[] arguments = type.getActualTypeArguments();
    if (value == null) {
      return null;
    }
    if (Map.class.isAssignableFrom(raw)) {
      return toMap(value, raw, arguments[0], arguments[1]);
    }
    if (Iterable.class.isAssignableFrom(raw)) {
      return toCollection(value, raw, arguments[0]);
    }
    if (raw == java.util.Optional.class) {
      return java.util.Optional.of(bind(value, arguments[0]));
    }
    return toClass(value, raw);
  }

  private static Object toClass(Object value, Class<?> type) {
    if (type.isPrimitive()) {
      return toPrimitive(value, type);
    }
    if (value == null) {
      return null;
    }
    if (type == Object.class) {
      return value;
    }
    if (type == String.class || type == CharSequence.class) {
      return toText(value);
    }
    if (type == Boolean.class || type == Character.class || Number.class.isAssignableFrom(type)) {
      return toScalar(value, type);
    }
    if (type.isEnum()) {
      return toEnum(value, type);
    }
    if (type == Date.class && value instanceof Number) {
      return new Date(((Number) value).longValue());
    }
    if (type == Date.class || type == Instant.class) {
      Instant instant = toInstant(value);
      return type == Date.class ? Date.from(instant) : instant;
    }
    if (type == byte[].class) {
      return java.util.Base64.getDecoder().decode(toText(value));
    }
    if (type.isArray()) {
      return toArray(value, type.getComponentType());
    }
    if (Map.class.isAssignableFrom(type)) {
      return toMap(value, type, Object.class, Object.class);
    }
    if (Collection.class.isAssignableFrom(type) || type == Iterable.class) {
      return toCollection(value, type, Object.class);
    }
    if (!(value instanceof Map)) {
      throw mismatch(value, type);
    }
    @SuppressWarnings("unchecked")
    Map<String, Object> members = (Map<String, Object>) value;
    return Property.isRecord(type) ? toRecord(members, type) : toBean(members, type);
  }

  private static Instant toInstant(Object value) {
    return value instanceof Number
        ? Instant.ofEpochMilli(((Number) value).longValue())
        : Instant.parse(toText(value));
  }

  /** Numbers and booleans have a text; objects and lists have none. */
  private static String toText(Object value) {
    if (value instanceof Map || value instanceof List) {
      throw mismatch(value, String.class);
    }
    return value.toString();
  }

  private static Object toPrimitive(Object value, Class<?> type) {
    if (value == null) {
      return Array.get(Array.newInstance(type, 1), 0);
    }
    return toScalar(value, Array.get(Array.newInstance(type, 1), 0).getClass());
  }

  private static Object toScalar(Object value, Class<?> type) {
    if (type == Boolean.class) {
      if (value instanceof Boolean) {
        return value;
      }
      if ("true".equals(value) || "false".equals(value)) {
        return Boolean.valueOf((String) value);
      }
      throw mismatch(value, type);
    }
    if (type == Character.class) {
      if (value instanceof String && ((String) value).length() == 1) {
        return ((String) value).charAt(0);
      }
      throw mismatch(value, type);
    }
    return toNumber(value, type);
  }

  private static Number toNumber(Object value, Class<?> type) {
    BigDecimal number;
    try {
      number = new BigDecimal(toText(value).trim());
    } catch (NumberFormatException error) {
      throw mismatch(value, type);
    }
    if (type == Double.class) {
      return number.doubleValue();
    }
    if (type == Float.class) {
      return number.floatValue();
    }
    if (type == BigDecimal.class || type == Number.class) {
      return type == Number.class && value instanceof Number ? (Number) value : number;
    }
    BigInteger whole = number.toBigInteger();
    try {
      if (type == Integer.class) {
        return whole.intValueExact();
      }
      if (type == Long.class) {
        return whole.longValueExact();
      }
      if (type == Short.class) {
        return whole.shortValueExact();
      }
      if (type == Byte.class) {
        return whole.byteValueExact();
      }
    } catch (ArithmeticException error) {
      throw new IllegalArgumentException(whole + " is out of the range of " + type.getName());
    }
    if (type == BigInteger.class) {
      return whole;
    }
    throw mismatch(value, type);
  }

  private static Object toEnum(Object value, Class<?> type) {
    for (Object constant : type.getEnumConstants()) {
      if (((Enum<?>) constant).name().equals(value)) {
        return constant;
      }
    }
    throw mismatch(value, type);
  }

  private static Object toArray(Object value, Type item) {
    if (value == null) {
      return null;
    }
    List<?> items = toList(value);
    Class<?> raw = item instanceof Class ? (Class<?>) item : rawOf(item);
    Object array = Array.newInstance(raw, items.size());
    for (int index = 0; index < items.size(); index++) {
      Array.set(array, index, bind(items.get(index), item));
    }
    return array;
  }

  private static Class<?> rawOf(Type type) {
    return type instanceof ParameterizedType
        ? (Class<?>) ((ParameterizedType) type).getRawType()
        : Object.class;
  }

  private static Object toCollection(Object value, Class<?> raw, Type item) {
    Collection<Object> items;
    if (!raw.isInterface() && !Modifier.isAbstract(raw.getModifiers())) {
      @SuppressWarnings("unchecked")
      Collection<Object> made = (Collection<Object>) create(raw);
      items = made;
    } else if (Set.class.isAssignableFrom(raw)) {
      items = new LinkedHashSet<>();
    } else {
      items = new ArrayList<>();
    }
    for (Object member : toList(value)) {
      items.add(bind(member, item));
    }
    return items;
  }

  private static List<?> toList(Object value) {
    if (!(value instanceof List)) {
      throw mismatch(value, List.class);
    }
    return (List<?>) value;
  }

  private static Object toMap(Object value, Class<?> raw, Type key, Type item) {
    if (!(value instanceof Map)) {
      throw mismatch(value, Map.class);
    }
    Map<Object, Object> made;
    if (raw.isInterface() || Modifier.isAbstract(raw.getModifiers())) {
      made = new LinkedHashMap<>();
    } else {
      @SuppressWarnings("unchecked")
      Map<Object, Object> own = (Map<Object, Object>) create(raw);
      made = own;
    }
    for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
      made.put(bind(entry.getKey(), key), bind(entry.getValue(), item));
    }
    return made;
  }

  private static Object toBean(Map<String, Object> members, Class<?> type) {
    Object bean = create(type);
    Map<String, Property> properties = Property.writable(type);
    for (Map.Entry<String, Object> member : members.entrySet()) {
      Property property = properties.get(Property.key(member.getKey()));
      if (property != null) {
        try {
          property.write(bean, bind(member.getValue(), property.type()));
        } catch (InvocationTargetException error) {
          throw new IllegalArgumentException(property.name + " was refused", error.getCause());
        } catch (ReflectiveOperationException error) {
          throw new IllegalArgumentException(property.name + " cannot be set", error);
        }
      }
    }
    return bean;
  }

  private static Object toRecord(Map<String, Object> members, Class<?> type) {
    Field[] components =
        Arrays.stream(type.getDeclaredFields())
            .filter(field -> !Modifier.isStatic(field.getModifiers()))
            .toArray(Field[]::new);
    Class<?>[] types = new Class<?>[components.length];
    Object[] values = new Object[components.length];
    for (int index = 0; index < components.length; index++) {
      types[index] = components[index].getType();
      values[index] =
          bind(members.get(components[index].getName()), components[index].getGenericType());
    }
    try {
      Constructor<?> constructor = type.getDeclaredConstructor(types);
      constructor.setAccessible(true);
      return constructor.newInstance(values);
    } catch (InvocationTargetException error) {
      throw new IllegalArgumentException(type.getName() + " was refused", error.getCause());
    } catch (ReflectiveOperationException error) {
      throw new IllegalArgumentException(type.getName() + " cannot be made", error);
    }
  }

  private static Object create(Class<?> type) {
    try {
      Constructor<?> constructor = type.getDeclaredConstructor();
      constructor.setAccessible(true);
      return constructor.newInstance();
    } catch (InvocationTargetException error) {
      throw new IllegalArgumentException(type.getName() + " was refused", error.getCause());
    } catch (ReflectiveOperationException error) {
      throw new IllegalArgumentException(
          type.getName() + " cannot be made: it needs a constructor without parameters", error);
    }
  }

  private static IllegalArgumentException mismatch(Object value, Class<?> type) {
    String kind =
        value instanceof Map ? "an object" : value instanceof List ? "a list" : "" + value;
    return new IllegalArgumentException(kind + " is no " + type.getName());
  }
}
